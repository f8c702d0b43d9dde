//! Identical output of several children, shown once with the nodes that gave it.

use std::collections::BTreeMap;
use std::io;

use sortie::answer::{Failure, Source};
use sortie_model::{EntryId, Record};

use crate::render::clean::one_line;
use crate::render::fold::fold;
use crate::render::sink::{Channel, Channels, RecordSink, for_people};

/// Output that is held for comparison. Past it the groups so far are shown, and gathering begins
/// anew.
const GATHERED_BYTES: usize = 256 * 1024 * 1024;

/// Holds every child's output until the end, then shows each distinct one once.
pub(crate) struct GatherSink {
    channels: Channels,
    children: BTreeMap<EntryId, Gathered>,
    bytes: usize,
}

struct Gathered {
    node: String,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl GatherSink {
    pub(crate) const fn new(channels: Channels) -> Self {
        Self { channels, children: BTreeMap::new(), bytes: 0 }
    }

    fn show(&mut self) -> io::Result<()> {
        let children = std::mem::take(&mut self.children);
        self.bytes = 0;
        self.show_groups(Channel::Out, children.values().map(|child| (&child.node, &child.out)))?;
        self.show_groups(Channel::Err, children.values().map(|child| (&child.node, &child.err)))?;
        self.channels.flush()
    }

    fn show_groups<'a>(
        &mut self,
        channel: Channel,
        children: impl Iterator<Item = (&'a String, &'a Vec<u8>)>,
    ) -> io::Result<()> {
        for (nodes, text) in group(children) {
            let stream = if channel == Channel::Err { " stderr" } else { "" };
            let nodes = (fold(nodes.iter().copied()), nodes.len());
            let title = format!("--- {} ({}){stream} ---\n", nodes.0, nodes.1);
            self.channels.write(channel, title.as_bytes())?;
            self.channels.write(channel, text)?;
            if !text.ends_with(b"\n") {
                self.channels.write(channel, b"\n")?;
            }
        }
        Ok(())
    }
}

/// Each distinct text that is not empty with the nodes that gave it, in order of first appearance.
fn group<'a>(
    children: impl Iterator<Item = (&'a String, &'a Vec<u8>)>,
) -> Vec<(Vec<&'a str>, &'a [u8])> {
    let mut place = std::collections::HashMap::<&[u8], usize>::new();
    let mut groups: Vec<(Vec<&str>, &[u8])> = Vec::new();
    for (node, text) in children.filter(|(_, text)| !text.is_empty()) {
        let index = *place.entry(text.as_slice()).or_insert(groups.len());
        match groups.get_mut(index) {
            Some((nodes, _)) => nodes.push(node),
            None => groups.push((vec![node], text)),
        }
    }
    groups
}

impl RecordSink for GatherSink {
    fn records(&mut self, source: &Source, records: &[Record]) -> io::Result<()> {
        let new = || Gathered {
            node: one_line(&source.location).into_owned(),
            out: Vec::new(),
            err: Vec::new(),
        };
        let child = self.children.entry(source.child).or_insert_with(new);
        for (channel, bytes) in records.iter().filter_map(for_people) {
            self.bytes += bytes.len();
            match channel {
                Channel::Out => child.out.extend_from_slice(&bytes),
                Channel::Err => child.err.extend_from_slice(&bytes),
            }
        }
        if self.bytes > GATHERED_BYTES {
            self.channels.write(
                Channel::Err,
                b"sortie: more than 256 MiB to gather: showing what came so far\n",
            )?;
            self.show()?;
        }
        Ok(())
    }

    fn holds_back(&self) -> bool {
        !self.children.is_empty()
    }

    fn gathers(&self) -> bool {
        true
    }

    fn write_held(&mut self) -> io::Result<()> {
        self.show()
    }

    fn finish(&mut self, _: &[Failure]) -> io::Result<()> {
        self.show()
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::Stream;

    use super::*;
    use crate::render::sink::tests::{Seen, bytes, source};

    #[test]
    fn identical_output_is_shown_once_with_its_nodes() {
        let seen = Seen::default();
        let mut sink = GatherSink::new(seen.channels());
        for (child, node, text) in
            [(2, "n1", "a\n"), (3, "n2", "b"), (4, "n3", "a\n"), (5, "n4", "a\n")]
        {
            let records = [bytes(Stream::Output, text.as_bytes())];
            sink.records(&source(child, node), &records).expect("memory");
        }
        sink.records(&source(3, "n2"), &[bytes(Stream::Error, b"oh\n")]).expect("memory");
        assert_eq!(seen.text(Channel::Out), "");
        sink.finish(&[]).expect("memory");
        assert_eq!(seen.text(Channel::Out), "--- n[1,3-4] (3) ---\na\n--- n2 (1) ---\nb\n");
        assert_eq!(seen.text(Channel::Err), "--- n2 (1) stderr ---\noh\n");
    }
}
