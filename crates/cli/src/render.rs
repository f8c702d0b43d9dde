//! What people and scripts see: tables, JSON, records, prefixes, progress.

pub(crate) mod clean;
pub(crate) mod exact;
pub(crate) mod explain;
pub(crate) mod failures;
pub(crate) mod fold;
pub(crate) mod gather;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod listing;
pub(crate) mod out;
pub(crate) mod progress;
pub(crate) mod records;
pub(crate) mod sessions;
pub(crate) mod sheet;
pub(crate) mod sink;
pub(crate) mod table;
pub(crate) mod tree;
pub(crate) mod value;
pub(crate) mod yaml;
