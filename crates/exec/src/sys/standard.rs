//! Which of the three standard descriptors were closed when this program began.
//!
//! Rust's runtime opens `/dev/null` in their place before `main`, so that a later file does not get
//! their number; from then on a closed output looks like one that takes everything.
#![expect(unsafe_code, reason = "nothing but a constructor runs before Rust's runtime does")]

use std::sync::atomic::{AtomicU8, Ordering};

/// One of the three descriptors that every program expects to be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StandardStream {
    /// Descriptor 0.
    Input,
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

/// One bit for each descriptor, written once before `main`.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Whether that stream was closed when this program began: what is written to it goes nowhere, and
/// what is read from it ends at once.
pub fn began_without(stream: StandardStream) -> bool {
    CLOSED.load(Ordering::Relaxed) & bit(stream as i32) != 0
}

const fn bit(descriptor: i32) -> u8 {
    1 << descriptor
}

extern "C" fn note_closed() {
    let closed = (0..3).filter(|descriptor| {
        // SAFETY: asking for the flags of a descriptor changes nothing, whether it is open or not.
        unsafe { libc::fcntl(*descriptor, libc::F_GETFD) < 0 }
    });
    CLOSED.store(closed.fold(0, |bits, descriptor| bits | bit(descriptor)), Ordering::Relaxed);
}

// SAFETY: the loader calls what this section holds, as functions of this type, before `main`. This
// one needs nothing of Rust's runtime: it calls the kernel and writes to an atomic.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = note_closed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_begins_with_all_three() {
        let all = [StandardStream::Input, StandardStream::Output, StandardStream::Error];
        assert_eq!(all.map(began_without), [false; 3]);
    }
}
