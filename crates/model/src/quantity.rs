//! Durations and sizes as people type them.
