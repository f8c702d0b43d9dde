//! Input on its way to a job: read on a thread of its own, sent at the node's pace.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};
use rustix::fs::OFlags;
use sortie::{
    InputSender, ItemSender, ItemSplitter, Misuse, RequestError, Separator, StandardStream,
    TerminalSender, began_without, limits,
};
use tokio::sync::mpsc;

use crate::args::FileOrStdin;
use crate::args::work::cannot_read;
use crate::failure::Failure;
use crate::keyboard::Keyboard;
use crate::task_input::InputFormat;

/// Bytes that one read asks for.
const READ_BYTES: usize = 256 * 1024;
/// Reads that wait for the node.
const READS_AHEAD: usize = 4;

const OUR_INPUT: &str = "our standard input";

/// A file, or our standard input, that is open.
pub(crate) struct Source {
    name: String,
    file: File,
    /// Opened by us, so that nobody else reads on where we stop.
    from_path: bool,
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
                Ok(Self { name: path.display().to_string(), file, from_path: true })
            }
            FileOrStdin::Stdin if began_without(StandardStream::Input) => Err(Failure::no_input()),
            FileOrStdin::Stdin => {
                let stdin = io::stdin().as_fd().try_clone_to_owned();
                let file: File = stdin.map_err(|error| cannot_read(OUR_INPUT, &error))?.into();
                if let Some(why) = why_unreadable(&file) {
                    let failure = Failure::usage(format_args!("cannot read {OUR_INPUT}: {why}"));
                    return Err(failure.hint("give it a file or a pipe that can be read"));
                }
                Ok(Self { name: OUR_INPUT.to_owned(), file, from_path: false })
            }
        }
    }

    /// What is read, piece by piece. The thread that reads ends with the program at the latest.
    pub(crate) fn pieces(mut self) -> mpsc::Receiver<Result<Bytes, Failure>> {
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

    /// What it is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Everything up to the end; more than `most` bytes are a usage error.
    pub(crate) fn read_whole(mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        while let Some(piece) = self.read()? {
            whole.extend_from_slice(&piece);
            if whole.len() > most {
                let name = self.name;
                return Err(Failure::usage(format_args!("{name} is longer than {most} bytes")));
            }
        }
        Ok(whole)
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
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::internal(format_args!("cannot read {}: {error}", self.name))
    }

    /// Whether it can be read twice.
    fn can_be_read_again(&self) -> bool {
        self.from_path && self.file.metadata().is_ok_and(|facts| facts.is_file())
    }
}

/// Why nothing can be read from an open file, where that is known without a read.
fn why_unreadable(file: &File) -> Option<&'static str> {
    if file.metadata().is_ok_and(|facts| facts.is_dir()) {
        return Some("it is a folder");
    }
    let mode = rustix::fs::fcntl_getfl(file).ok()? & OFlags::ACCMODE;
    (mode == OFlags::WRONLY).then_some("it is open for writing only")
}

/// The items of a map.
pub(crate) struct List {
    /// Where they are read.
    pub(crate) source: Source,
    /// What ends each.
    pub(crate) separator: Separator,
    /// How each is handed over.
    pub(crate) form: Form,
}

/// How the items of a map are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Raw,
    /// As inputs of a function.
    Input(InputFormat),
}

impl List {
    /// Looks for items that cannot be handed over before any job exists, where the list can be read
    /// twice.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        if !self.source.can_be_read_again() {
            return Ok(());
        }
        // What is short has no line that is too long, which is all that can be wrong with one.
        let length = self.source.file.metadata().map_or(0, |facts| facts.len());
        if self.form == Form::Raw && length <= limits::MAP_LINE_BYTES as u64 {
            return Ok(());
        }
        let mut items = self.reader();
        while let Some(piece) = self.source.read()? {
            items.splitter.push(&piece);
            while items.next_item()?.is_some() {}
        }
        items.finish()?;
        self.source.file.rewind().map_err(|error| self.source.failed(&error))
    }

    fn reader(&self) -> ItemReader {
        let Self { source, separator, form } = self;
        let name = source.name.clone();
        let splitter = ItemSplitter::new(*separator);
        ItemReader { name, splitter, separator: *separator, form: *form }
    }
}

/// Cuts items out of what is read, and gives them their form.
struct ItemReader {
    name: String,
    splitter: ItemSplitter,
    separator: Separator,
    form: Form,
}

impl ItemReader {
    /// The next whole item.
    fn next_item(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(written) = self.splitter.next_item().map_err(|error| self.refused(error))? {
            if let Some(item) = self.shape(written, self.splitter.position())? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// The item after the last separator.
    fn finish(mut self) -> Result<Option<Bytes>, Failure> {
        let place = self.splitter.position() + 1;
        let splitter = std::mem::take(&mut self.splitter);
        match splitter.finish() {
            Ok(Some(written)) => self.shape(written, place),
            Ok(None) => Ok(None),
            Err(misuse) => Err(self.refused_at(place, misuse)),
        }
    }

    const fn unit(&self) -> &'static str {
        match self.separator {
            Separator::Newline => "line",
            Separator::Nul => "item",
        }
    }

    fn refused(&self, misuse: Misuse) -> Failure {
        self.refused_at(self.splitter.position() + 1, misuse)
    }

    fn refused_at(&self, place: u64, misuse: Misuse) -> Failure {
        let Misuse::LineTooLong = misuse else { return RequestError::from(misuse).into() };
        let (unit, name, most) = (self.unit(), &self.name, limits::MAP_LINE_BYTES);
        Failure::usage(format_args!("{unit} {place} of {name} is longer than {most} bytes"))
            .hint("what is longer goes into a file of its own, whose name is the line")
    }

    fn shape(&self, written: Bytes, place: u64) -> Result<Option<Bytes>, Failure> {
        let Form::Input(format) = self.form else { return Ok(Some(written)) };
        format.encode_item(&written).map_err(|bad| {
            let what = self.unit();
            let failure = Failure::usage(format_args!("{what} {place} of {} {bad}", self.name));
            match format {
                InputFormat::Json => {
                    failure.hint(format!("`--input-format text` takes each {what} as a text"))
                }
                InputFormat::Text => failure,
            }
        })
    }
}

/// Where a job's input goes.
pub(crate) enum Feed {
    /// Nowhere.
    None,
    /// To the children's standard input.
    Bytes(Source, InputSender),
    /// To the child's terminal.
    Keys(Keyboard, TerminalSender),
    /// One child for each item.
    Items(List, ItemSender),
}

impl Feed {
    /// Sends everything up to the end. Dropped half-way, the input counts as lost.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::None => Ok(()),
            Self::Bytes(source, sender) => send_bytes(source, sender).await,
            Self::Keys(keyboard, sender) => keyboard.play(sender).await,
            Self::Items(list, sender) => send_items(list, sender).await,
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

async fn send_items(list: List, sender: ItemSender) -> Result<(), Failure> {
    match pour_items(list, sender).await {
        // The job was stopped: it wants no more items.
        Err(Stopped::Request(RequestError::InputClosed)) => Ok(()),
        Err(Stopped::Request(error)) => Err(error.into()),
        Err(Stopped::Source(failure)) => Err(failure),
        Ok(()) => Ok(()),
    }
}

/// Why no more items are sent.
enum Stopped {
    /// The node does not take them.
    Request(RequestError),
    /// They cannot be read, or make no sense.
    Source(Failure),
}

impl From<RequestError> for Stopped {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Source(failure)
    }
}

async fn pour_items(list: List, mut sender: ItemSender) -> Result<(), Stopped> {
    let mut items = list.reader();
    let mut pieces = list.source.pieces();
    while let Some(piece) = pieces.recv().await {
        items.splitter.push(&piece?);
        while let Some(item) = items.next_item()? {
            sender.send(&item).await?;
        }
        // What the next read waits for may depend on the items so far.
        sender.flush().await?;
    }
    if let Some(item) = items.finish()? {
        sender.send(&item).await?;
    }
    Ok(sender.finish().await?)
}
