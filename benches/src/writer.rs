//! A process that writes much: the body of the scenarios on output, and of their limits.

use std::io::Write;
use std::path::PathBuf;

use crate::program::Outcome;

/// What one write holds.
const PIECE: usize = 1 << 20;

/// The program and the arguments that write so many bytes to standard output.
///
/// # Errors
/// When this program does not know its own path.
pub fn command(bytes: u64) -> Outcome<(PathBuf, [String; 2])> {
    Ok((std::env::current_exe()?, ["writer".to_owned(), bytes.to_string()]))
}

/// Writes as many bytes as the words say.
pub(crate) fn play(words: &[String]) -> Outcome<()> {
    let bytes = words.get(1).ok_or("how many bytes?")?.parse::<u64>()?;
    let piece = vec![b'x'; PIECE];
    let mut out = std::io::stdout().lock();
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let Some(part) = piece.get(..length) else { break };
        out.write_all(part)?;
        left -= length as u64;
    }
    Ok(())
}
