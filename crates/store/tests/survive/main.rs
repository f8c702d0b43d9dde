//! What outlives a process and a release: through the public API, on a real disk.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod kept;
mod killed;
mod recovered;
mod sample;
