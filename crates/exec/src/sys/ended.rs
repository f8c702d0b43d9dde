//! The end of a process that is not ours.

use std::io;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;

use super::watch::watch;

/// Resolves when the process has ended, as soon as the system knows. Needs a tokio runtime.
///
/// # Errors
/// The system's; [`io::ErrorKind::NotFound`] when there is no such process.
///
/// # Cancel safety
/// Cancel safe.
pub async fn ended(process: u32) -> io::Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    let held = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    watch(held, Interest::READABLE)?.readable().await?.retain_ready();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_known_and_so_is_that_there_is_none() {
        let mut cat = std::process::Command::new("cat");
        let mut child = cat.stdin(std::process::Stdio::piped()).spawn().expect("a process");
        let waiting = tokio::spawn(ended(child.id()));
        drop(child.stdin.take());
        waiting.await.expect("no panic").expect("it was there");
        child.wait().expect("it has ended");
        assert!(ended(0).await.is_err() && ended(u32::MAX).await.is_err());
    }
}
