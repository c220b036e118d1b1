//! File descriptors.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use dormouse_block::GuestPath;
use dormouse_filesystem::{Follow, NodeKind};
use dormouse_overlay::{DraftNode, Identity};

use super::Shell;
use crate::call::Reason;
use crate::stop::{Run, Stop};

pub(crate) type Fd = Rc<RefCell<Stream>>;

#[derive(Debug)]
pub(crate) enum Stream {
    /// `/dev/null`.
    Null,
    /// What the script was started with as its standard input: nobody answers there.
    Terminal,
    /// The script's own output.
    Log,
    /// Bytes to be read.
    Input { bytes: Arc<[u8]>, position: usize },
    /// Bytes written so far to a pipe or command substitution.
    Capture(Vec<u8>),
    /// A file open for writing.
    File {
        path: GuestPath,
        identity: Option<Identity>,
        position: usize,
        append: bool,
    },
}

pub(crate) fn fd(stream: Stream) -> Fd {
    Rc::new(RefCell::new(stream))
}

pub(crate) fn input(bytes: impl Into<Arc<[u8]>>) -> Fd {
    fd(Stream::Input {
        bytes: bytes.into(),
        position: 0,
    })
}

fn busy() -> Stop {
    Stop::defer(Reason::Limit, "a stream is used by two at once")
}

impl Shell<'_> {
    /// Writes to the standard output. A closed output fails quietly.
    pub(crate) fn out(&mut self, bytes: &[u8]) -> Run<()> {
        self.write_fd(1, bytes).map(|_| ())
    }

    /// Writes to the standard error.
    pub(crate) fn err(&mut self, bytes: &[u8]) -> Run<()> {
        self.write_fd(2, bytes).map(|_| ())
    }

    /// Writes a line to the standard error.
    pub(crate) fn complain(&mut self, command: &[u8], what: impl AsRef<[u8]>) -> Run<()> {
        let mut line = command.to_vec();
        line.extend_from_slice(b": ");
        line.extend_from_slice(what.as_ref());
        line.push(b'\n');
        self.write_fd(2, &line).map(|_| ())
    }

    /// Writes to a descriptor; false when it is not open for writing.
    pub(crate) fn write_fd(&mut self, number: u32, bytes: &[u8]) -> Run<bool> {
        let Some(fd) = self.environment.streams.get(&number).cloned() else {
            return Ok(false);
        };
        self.write_stream(&fd, bytes)
    }

    pub(crate) fn write_stream(&mut self, fd: &Fd, bytes: &[u8]) -> Run<bool> {
        self.files.budget.bytes_of(bytes)?;
        let mut stream = fd.try_borrow_mut().map_err(|_| busy())?;
        match &mut *stream {
            Stream::Null | Stream::Terminal => Ok(true),
            Stream::Log => {
                self.log(bytes);
                Ok(true)
            }
            Stream::Input { .. } => Ok(false),
            Stream::Capture(captured) => {
                let size = captured.len().saturating_add(bytes.len());
                self.files
                    .budget
                    .object(u64::try_from(size).unwrap_or(u64::MAX))?;
                captured.extend_from_slice(bytes);
                Ok(true)
            }
            Stream::File {
                path,
                identity,
                position,
                append,
            } => {
                if bytes.is_empty() {
                    return Ok(true);
                }
                let found = self
                    .files
                    .draft
                    .get(path, Follow::No)
                    .map_err(|error| Stop::defer(Reason::Guest, error.with_causes()))?;
                let Some(found) = found.filter(|found| {
                    found.node.kind() == NodeKind::File
                        && identity.is_none_or(|identity| identity == found.identity)
                }) else {
                    return Err(Stop::defer(
                        Reason::Usage,
                        format!("writes on to {path} after it was moved or removed"),
                    ));
                };
                let path = path.clone();
                let mut content = match &found.node {
                    DraftNode::File(dormouse_overlay::Content::Bytes(bytes)) => bytes.to_vec(),
                    _ => match self.files.read(path.as_bytes())? {
                        Ok(content) => content,
                        Err(errno) => {
                            return Err(Stop::defer(Reason::Guest, format!("{path}: {errno}")));
                        }
                    },
                };
                let start = if *append { content.len() } else { *position };
                let end = start.saturating_add(bytes.len());
                self.files
                    .budget
                    .object(u64::try_from(end).unwrap_or(u64::MAX))?;
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(place) = content.get_mut(start..end) {
                    place.copy_from_slice(bytes);
                }
                self.files.set_bytes(&path, content)?;
                *position = end;
                let now = self
                    .files
                    .draft
                    .get(&path, Follow::No)
                    .map_err(|error| Stop::defer(Reason::Guest, error.with_causes()))?;
                *identity = now.map(|found| found.identity);
                Ok(true)
            }
        }
    }

    /// Everything that is left of the standard input.
    pub(crate) fn read_all(&mut self) -> Run<Vec<u8>> {
        let Some(fd) = self.environment.streams.get(&0).cloned() else {
            return Ok(Vec::new());
        };
        let mut stream = fd.try_borrow_mut().map_err(|_| busy())?;
        match &mut *stream {
            Stream::Input { bytes, position } => {
                let rest = bytes.get(*position..).unwrap_or_default().to_vec();
                *position = bytes.len();
                self.files.budget.bytes_of(&rest)?;
                Ok(rest)
            }
            Stream::Null => Ok(Vec::new()),
            _ => Err(unanswered()),
        }
    }

    /// One byte of the standard input; `None` at its end.
    pub(crate) fn read_byte(&mut self) -> Run<Option<u8>> {
        let Some(fd) = self.environment.streams.get(&0).cloned() else {
            return Ok(None);
        };
        self.files.budget.step(1)?;
        let mut stream = fd.try_borrow_mut().map_err(|_| busy())?;
        match &mut *stream {
            Stream::Input { bytes, position } => {
                let byte = bytes.get(*position).copied();
                if byte.is_some() {
                    *position = position.saturating_add(1);
                }
                Ok(byte)
            }
            Stream::Null => Ok(None),
            _ => Err(unanswered()),
        }
    }
}

fn unanswered() -> Stop {
    Stop::defer(
        Reason::Question,
        "reads from the terminal, where nobody answers",
    )
}
