//! Notes of entries that more than one program knows by their words.

use crate::limits::{HEARTBEAT, LEASE};

/// What [`with_another_reader`] says in each of its sentences.
pub const WITH_ANOTHER_READER: &str = "with another reader that has not confirmed";

/// The note on so many records that another reader was given and has not said to have written out.
/// That one may be alive, or dead and not noticed yet.
pub fn with_another_reader(records: u64) -> String {
    let (are, them) = if records == 1 { ("record is", "it") } else { ("records are", "them") };
    // It is looked with each heartbeat.
    let most = (LEASE + HEARTBEAT).as_secs_f64().ceil();
    format!(
        "{records} {are} {WITH_ANOTHER_READER} {them}; \
         receive again when it has ended, or {most} s after it was killed"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_one_sentence_for_one_record_and_for_several() {
        let one = "1 record is with another reader that has not confirmed it; \
                   receive again when it has ended, or 9 s after it was killed";
        assert_eq!(with_another_reader(1), one);
        assert!(with_another_reader(2).starts_with("2 records are with another reader that has"));
    }
}
