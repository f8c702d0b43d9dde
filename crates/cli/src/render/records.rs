//! Records as JSON: one a line, or all in one document.

use std::io;

use serde_json::json;
use sortie::answer::{Failure, Source};
use sortie_model::{EntryId, Record, State};

use crate::failure;
use crate::render::json;
use crate::render::sink::{Channel, Channels, RecordSink};

/// One record a line.
pub(crate) struct NdjsonSink {
    channels: Channels,
    events: Events,
}

/// Whether the end of an entry is said too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    /// One line for each entry that settles (`--events`).
    Say,
    /// Records only.
    Omit,
}

impl NdjsonSink {
    pub(crate) const fn new(channels: Channels, events: Events) -> Self {
        Self { channels, events }
    }
}

impl RecordSink for NdjsonSink {
    fn records(&mut self, source: &Source, records: &[Record]) -> io::Result<()> {
        for record in records {
            let line = format!("{}\n", json::record(source, record));
            self.channels.write(Channel::Out, line.as_bytes())?;
        }
        self.channels.flush()
    }

    fn settled(&mut self, entry: EntryId, state: State) -> io::Result<()> {
        if self.events == Events::Say {
            let event = json!({ "event": "settled", "id": entry.0, "state": state.as_json() });
            let line = format!("{event}\n");
            self.channels.write(Channel::Out, line.as_bytes())?;
        }
        self.channels.flush()
    }

    fn finish(&mut self, _: &[Failure]) -> io::Result<()> {
        self.channels.flush()
    }
}

/// One document: `{"schema":1,"records":[…],"failures":[…]}`, written as the records come.
pub(crate) struct JsonSink {
    channels: Channels,
    count: u64,
}

impl JsonSink {
    pub(crate) const fn new(channels: Channels) -> Self {
        Self { channels, count: 0 }
    }

    fn begin(&mut self) -> io::Result<()> {
        let text = if self.count == 0 {
            format!("{{\"schema\":{},\"records\":[\n", json::SCHEMA)
        } else {
            ",\n".to_owned()
        };
        self.channels.write(Channel::Out, text.as_bytes())
    }
}

impl RecordSink for JsonSink {
    fn records(&mut self, source: &Source, records: &[Record]) -> io::Result<()> {
        for record in records {
            self.begin()?;
            self.count += 1;
            self.channels
                .write(Channel::Out, json::record(source, record).to_string().as_bytes())?;
        }
        self.channels.flush()
    }

    fn finish(&mut self, failures: &[Failure]) -> io::Result<()> {
        if self.count == 0 {
            self.begin()?;
        }
        let failures: Vec<_> = failures.iter().map(json::failure).collect();
        let end = format!("\n],\"failures\":{}}}\n", serde_json::Value::Array(failures));
        self.channels.write(Channel::Out, end.as_bytes())?;
        self.channels.flush()
    }

    /// A document that was begun is whole in any case, and says that something is missing.
    fn break_off(&mut self, why: &failure::Failure) -> io::Result<()> {
        if self.count > 0 {
            let end = format!("\n],\"failures\":[],\"error\":{}}}\n", why.as_value());
            self.channels.write(Channel::Out, end.as_bytes())?;
        }
        self.channels.flush()
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::Stream;

    use super::*;
    use crate::render::sink::tests::{Seen, bytes, source, value};

    #[test]
    fn a_record_is_one_line_with_a_value_a_text_or_base64() {
        let seen = Seen::default();
        let mut sink = NdjsonSink::new(seen.channels(), Events::Say);
        let records = [
            bytes(Stream::Output, b"hi\n"),
            bytes(Stream::Error, b"\xff"),
            value(Stream::Output, &(1, "x")),
        ];
        sink.records(&source(2, "a"), &records).expect("memory");
        sink.settled(EntryId(2), State::Failed).expect("memory");
        sink.finish(&[]).expect("memory");
        let head = "{\"job\":1,\"child\":2,\"seq\":0,\"stream\":";
        let time = "\"time\":\"1970-01-01T00:00:00Z\",\"node\":\"a\"";
        let expected = format!(
            "{head}\"output\",{time},\"text\":\"hi\\n\"}}\n\
             {head}\"error\",{time},\"base64\":\"/w==\"}}\n\
             {head}\"output\",{time},\"value\":[1,\"x\"]}}\n\
             {{\"event\":\"settled\",\"id\":2,\"state\":\"failed\"}}\n"
        );
        assert_eq!(seen.text(Channel::Out), expected);
    }

    #[test]
    fn a_document_that_is_broken_off_is_whole_and_says_why() {
        let why = failure::Failure::usage("no more").hint("try again");
        let seen = Seen::default();
        JsonSink::new(seen.channels()).break_off(&why).expect("memory");
        assert_eq!(seen.text(Channel::Out), "", "nothing was begun");
        let mut sink = JsonSink::new(seen.channels());
        sink.records(&source(2, "a"), &[bytes(Stream::Output, b"x")]).expect("memory");
        sink.break_off(&why).expect("memory");
        let document: serde_json::Value =
            serde_json::from_str(&seen.text(Channel::Out)).expect("valid JSON");
        assert_eq!(document["records"].as_array().map(Vec::len), Some(1));
        assert_eq!(document["error"]["code"], "usage");
        assert_eq!(document["error"]["hint"], "try again");
    }

    #[test]
    fn a_document_is_whole_with_and_without_records() {
        for count in 0..3 {
            let seen = Seen::default();
            let mut sink = JsonSink::new(seen.channels());
            for _ in 0..count {
                sink.records(&source(2, "a"), &[bytes(Stream::Output, b"x")]).expect("memory");
            }
            sink.finish(&[]).expect("memory");
            let document: serde_json::Value =
                serde_json::from_str(&seen.text(Channel::Out)).expect("valid JSON");
            assert_eq!(document["schema"], 1);
            assert_eq!(document["records"].as_array().map(Vec::len), Some(count));
        }
    }
}
