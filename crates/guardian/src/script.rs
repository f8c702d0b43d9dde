//! Scripts as files that an interpreter can read.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sortie_model::spec::OsBytes;
use sortie_wire::guardian_proto::NulList;

/// The shell that runs scripts without a `#!` line, and init commands.
pub(crate) const SHELL: &str = "/bin/sh";
/// Names that are tried for the directory of scripts.
const NAMES_TRIED: u32 = 16;

/// A private directory of scripts, made when the first one is needed and removed with this value.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    directory: Option<PathBuf>,
    written: u64,
}

/// A script's file, removed with this value.
#[derive(Debug)]
pub(crate) struct ScriptFile(PathBuf);

impl Scripts {
    /// Writes a script to a file, and gives the words that run it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(
        &mut self,
        text: &[u8],
        arguments: &NulList,
    ) -> io::Result<(NulList, ScriptFile)> {
        self.written += 1;
        let name = self.written.to_string();
        let script = ScriptFile(self.directory()?.join(name));
        let words = write_at(&script.0, text, arguments)?;
        Ok((words, script))
    }

    fn directory(&mut self) -> io::Result<&Path> {
        if self.directory.is_none() {
            self.directory = Some(make_directory()?);
        }
        self.directory.as_deref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Writes a script to that new file, and gives the words that run it.
///
/// # Errors
/// When the file is there, or cannot be written.
pub(crate) fn write_at(path: &Path, text: &[u8], arguments: &NulList) -> io::Result<NulList> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?;
    file.write_all(text)?;
    let mut words = interpreter(text)?;
    words.push(os_bytes(path.as_os_str().as_bytes())?);
    let arguments: Vec<OsBytes> = arguments.iter().map(os_bytes).collect::<Result<_, _>>()?;
    Ok(NulList::of_words(words.iter().chain(&arguments)))
}

impl Drop for Scripts {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

impl Drop for ScriptFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn make_directory() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    let pid = std::process::id();
    let mut last = io::ErrorKind::AlreadyExists.into();
    for attempt in 0..NAMES_TRIED {
        let path = base.join(format!("sortie-scripts-{pid}-{attempt}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The interpreter that a script's first line names, with its one argument if it has one; else the
/// shell. Read here rather than by the kernel, so that scripts also run from a directory on a file
/// system where nothing may be executed.
fn interpreter(text: &[u8]) -> io::Result<Vec<OsBytes>> {
    let line = text.strip_prefix(b"#!").unwrap_or_default();
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (program, argument) = line.split_at(end);
    let mut words = Vec::with_capacity(3);
    for word in [program, argument.trim_ascii()] {
        if !word.is_empty() {
            words.push(os_bytes(word)?);
        }
    }
    if words.is_empty() {
        words.push(os_bytes(SHELL.as_bytes())?);
    }
    Ok(words)
}

fn os_bytes(bytes: &[u8]) -> io::Result<OsBytes> {
    OsBytes::try_from(Bytes::copy_from_slice(bytes)).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_interpreter() {
        let check = |text: &str, expected: &[&str]| {
            let words = interpreter(text.as_bytes()).expect("no NUL");
            let words: Vec<_> = words.iter().map(OsBytes::as_bytes).collect();
            assert_eq!(words, expected.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        };
        check("#!/usr/bin/env python3\nprint(1)\n", &["/usr/bin/env", "python3"]);
        check("#! /bin/awk -f -v \r\n", &["/bin/awk", "-f -v"]);
        check("#!/bin/cat", &["/bin/cat"]);
        check("echo hello\n", &["/bin/sh"]);
        check("#!\n", &["/bin/sh"]);
        check("", &["/bin/sh"]);
        assert!(interpreter(b"#!/bin/\0sh\n").is_err());
    }
}
