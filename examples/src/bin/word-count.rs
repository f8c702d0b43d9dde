//! Counts the words of all files below a directory on three nodes: `word-count [DIRECTORY]`.
//!
//! Each file is one child of one job. A failure (say, a file that cannot be read) is the result of
//! its child, with the node on which it happened, and loses nobody else's.

use std::error::Error;
use std::path::{Path, PathBuf};

use sortie::Node;

/// How many words a file has.
#[sortie::task]
async fn word_count(path: PathBuf) -> Result<u64, std::io::Error> {
    let text = tokio::fs::read(path).await?;
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Ok(words.count() as u64)
}

/// The regular files below a directory, in the order of their names.
fn files_below(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let files = files_below(&directory)?;

    // Three nodes, linked by QUIC. They live in one program here; on three machines each program
    // would start one.
    let a = Node::builder("a").register(word_count).start().await?;
    let b = Node::builder("b").register(word_count).join(&a).start().await?;
    let c = Node::builder("c").register(word_count).join(&a).start().await?;

    let job = a.session().map(word_count, files.clone()).on("a,b,c")?.start().await?;
    let mut results = job.results().in_order();
    let (mut words, mut failed) = (0, 0);
    while let Some(result) = results.next().await {
        match result {
            Ok(counted) => words += counted.value,
            Err(error) => {
                failed += 1;
                eprintln!("{error}");
            }
        }
    }
    println!("{words} words in {} files, {failed} unread", files.len());
    for node in [c, b, a] {
        node.shut_down().await;
    }
    Ok(())
}
