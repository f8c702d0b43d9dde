//! One child's bytes, exactly as it wrote them.

use std::io;

use sortie::answer::{Failure, Source};
use sortie_model::Record;

use crate::render::sink::{Channels, RecordSink, for_people};

/// Output to stdout, everything else to stderr, nothing added and nothing left out.
pub(crate) struct ExactSink {
    channels: Channels,
}

impl ExactSink {
    pub(crate) const fn new(channels: Channels) -> Self {
        Self { channels }
    }
}

impl RecordSink for ExactSink {
    fn records(&mut self, _: &Source, records: &[Record]) -> io::Result<()> {
        self.channels.retire_progress();
        for (channel, bytes) in records.iter().filter_map(for_people) {
            self.channels.write(channel, &bytes)?;
        }
        self.channels.flush()
    }

    fn finish(&mut self, _: &[Failure]) -> io::Result<()> {
        self.channels.flush()
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::Stream;

    use super::*;
    use crate::render::sink::Channel;
    use crate::render::sink::tests::{Seen, bytes, source};

    #[test]
    fn every_byte_passes_unchanged() {
        let seen = Seen::default();
        let mut sink = ExactSink::new(seen.channels());
        let all: Vec<u8> = (0..=255).collect();
        let records = [bytes(Stream::Output, &all), bytes(Stream::Error, b"\x1b[31mno newline")];
        sink.records(&source(2, "localhost"), &records).expect("memory");
        sink.finish(&[]).expect("memory");
        assert_eq!(seen.bytes(Channel::Out), all);
        assert_eq!(seen.bytes(Channel::Err), b"\x1b[31mno newline");
    }
}
