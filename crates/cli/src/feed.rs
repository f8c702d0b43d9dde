//! Input on its way to a job: read on a thread of its own, sent at the node's pace.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};
use sortie::{
    InputSender, ItemSender, ItemSplitter, RequestError, Separator, StandardStream, began_without,
};
use tokio::sync::mpsc;

use crate::args::FileOrStdin;
use crate::args::work::cannot_read;
use crate::failure::Failure;

/// Bytes that one read asks for.
const READ_BYTES: usize = 256 * 1024;
/// Reads that wait for the node.
const READS_AHEAD: usize = 4;

/// A file, or our standard input, that is open.
pub(crate) struct Source {
    name: String,
    file: File,
}

impl Source {
    /// Opens it, so that a file that is not there is an error before any job exists.
    pub(crate) fn open(from: &FileOrStdin) -> Result<Self, Failure> {
        match from {
            FileOrStdin::File(path) => {
                let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
                let is_folder = file.metadata().is_ok_and(|facts| facts.is_dir());
                if is_folder {
                    return Err(cannot_read(path, &io::ErrorKind::IsADirectory.into()));
                }
                Ok(Self { name: path.display().to_string(), file })
            }
            FileOrStdin::Stdin if began_without(StandardStream::Input) => Err(Failure::no_input()),
            FileOrStdin::Stdin => {
                let stdin = io::stdin().as_fd().try_clone_to_owned();
                let file = stdin.map_err(|error| cannot_read(OsStr::new("-"), &error))?;
                Ok(Self { name: "our standard input".to_owned(), file: file.into() })
            }
        }
    }

    /// What is read, piece by piece. The thread that reads ends with the program at the latest.
    fn pieces(mut self) -> mpsc::Receiver<Result<Bytes, Failure>> {
        let (sender, receiver) = mpsc::channel(READS_AHEAD);
        std::thread::spawn(move || {
            loop {
                let piece = self.read().transpose();
                let Some(piece) = piece else { return };
                let broken = piece.is_err();
                if sender.blocking_send(piece).is_err() || broken {
                    return;
                }
            }
        });
        receiver
    }

    fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        let mut buffer = BytesMut::zeroed(READ_BYTES);
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    buffer.truncate(count);
                    return Ok(Some(buffer.freeze()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failure::internal(format_args!(
                        "cannot read {}: {error}",
                        self.name
                    )));
                }
            }
        }
    }
}

/// Where a job's input goes.
pub(crate) enum Feed {
    /// Nowhere.
    None,
    /// To the children's standard input.
    Bytes(Source, InputSender),
    /// One child for each item.
    Items(Source, Separator, ItemSender),
}

impl Feed {
    /// Sends everything up to the end. Dropped half-way, the input counts as lost.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::None => Ok(()),
            Self::Bytes(source, sender) => send_bytes(source, sender).await,
            Self::Items(source, separator, sender) => send_items(source, separator, sender).await,
        }
    }
}

async fn send_bytes(source: Source, mut sender: InputSender) -> Result<(), Failure> {
    let mut pieces = source.pieces();
    while let Some(piece) = pieces.recv().await {
        match sender.send(piece?).await {
            // Nobody reads any more, which is the children's right.
            Err(RequestError::InputClosed) => return Ok(()),
            sent => sent?,
        }
    }
    Ok(sender.finish().await?)
}

async fn send_items(
    source: Source,
    separator: Separator,
    sender: ItemSender,
) -> Result<(), Failure> {
    match pour_items(source, separator, sender).await {
        // The job was stopped: it wants no more items.
        Err(RequestError::InputClosed) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(read) => read,
    }
}

/// Sends items; what cannot be read is the inner error.
async fn pour_items(
    source: Source,
    separator: Separator,
    mut sender: ItemSender,
) -> Result<Result<(), Failure>, RequestError> {
    let mut pieces = source.pieces();
    let mut splitter = ItemSplitter::new(separator);
    while let Some(piece) = pieces.recv().await {
        match piece {
            Ok(piece) => splitter.push(&piece),
            Err(failure) => return Ok(Err(failure)),
        }
        while let Some(item) = splitter.next_item()? {
            sender.send(&item).await?;
        }
        // What the next read waits for may depend on the items so far.
        sender.flush().await?;
    }
    if let Some(item) = splitter.finish()? {
        sender.send(&item).await?;
    }
    sender.finish().await.map(Ok)
}
