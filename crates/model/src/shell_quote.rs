//! Quoting words so that a shell reads them back.
