//! Redirections.

use std::collections::BTreeMap;

use super::Shell;
use super::streams::{self, Fd, Stream};
use crate::call::Reason;
use crate::stop::{Run, Stop};
use crate::syntax::{Redirection, RedirectionKind};

/// Standard streams by the names that the kernel gives them.
fn standard(path: &[u8]) -> Option<u32> {
    match path {
        b"/dev/stdin" => Some(0),
        b"/dev/stdout" => Some(1),
        b"/dev/stderr" => Some(2),
        _ => {
            let number = path
                .strip_prefix(b"/dev/fd/")
                .or_else(|| path.strip_prefix(b"/proc/self/fd/"))?;
            std::str::from_utf8(number).ok()?.parse().ok()
        }
    }
}

impl Shell<'_> {
    /// Applies redirections; a failing one is reported and ends in `false`.
    pub(crate) fn redirect(&mut self, redirections: &[Redirection]) -> Run<bool> {
        for redirection in redirections {
            if !self.redirect_one(redirection)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn redirect_one(&mut self, redirection: &Redirection) -> Run<bool> {
        let number = redirection.fd;
        let fd = match &redirection.kind {
            RedirectionKind::HereDocument(body) => {
                let bytes = match body.get() {
                    Some(word) => self.expand_joined(word)?,
                    None => Vec::new(),
                };
                Some(streams::input(bytes))
            }
            RedirectionKind::Duplicate(word) => {
                let target = self.expand_joined(word)?;
                if target == b"-" {
                    self.environment.streams.remove(&number);
                    return Ok(true);
                }
                let source = std::str::from_utf8(&target)
                    .ok()
                    .and_then(|target| target.parse::<u32>().ok());
                match source.and_then(|source| self.environment.streams.get(&source).cloned()) {
                    Some(fd) => Some(fd),
                    None => {
                        self.complain(b"sh", [&target[..], b": bad file descriptor"].concat())?;
                        None
                    }
                }
            }
            RedirectionKind::Read(word) => {
                let path = self.expand_joined(word)?;
                self.open_input(&path)?
            }
            RedirectionKind::Write(word) => {
                let path = self.expand_joined(word)?;
                if self.environment.options.noclobber {
                    return Err(Stop::defer(Reason::Usage, "redirects under set -C"));
                }
                self.open_output(&path, false)?
            }
            RedirectionKind::Append(word) => {
                let path = self.expand_joined(word)?;
                self.open_output(&path, true)?
            }
            RedirectionKind::ReadWrite(word) => {
                let path = self.expand_joined(word)?;
                if path != b"/dev/null" {
                    return Err(Stop::defer(
                        Reason::Usage,
                        "opens a file for reading and writing at once",
                    ));
                }
                Some(streams::fd(Stream::Null))
            }
        };
        match fd {
            Some(fd) => {
                self.environment.streams.insert(number, fd);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn open_input(&mut self, path: &[u8]) -> Run<Option<Fd>> {
        if path == b"/dev/null" {
            return Ok(Some(streams::fd(Stream::Null)));
        }
        if let Some(number) = standard(path) {
            return Ok(self.environment.streams.get(&number).cloned());
        }
        match self.files.read(path)? {
            Ok(bytes) => Ok(Some(streams::input(bytes))),
            Err(crate::files::Errno::IsDirectory) => Ok(Some(streams::fd(Stream::Null))),
            Err(errno) => {
                self.complain(
                    b"sh",
                    format!("cannot open {}: {errno}", String::from_utf8_lossy(path)),
                )?;
                Ok(None)
            }
        }
    }

    fn open_output(&mut self, path: &[u8], append: bool) -> Run<Option<Fd>> {
        // A sleeping disk may have an empty /dev; the machine that wakes has not.
        if path == b"/dev/null" {
            return Ok(Some(streams::fd(Stream::Null)));
        }
        if let Some(number) = standard(path) {
            return Ok(self.environment.streams.get(&number).cloned());
        }
        match self.files.open_for_writing(path, !append)? {
            Ok(Some(path)) => Ok(Some(streams::fd(Stream::File {
                path,
                identity: None,
                position: 0,
                append,
            }))),
            Ok(None) => Ok(Some(streams::fd(Stream::Null))),
            Err(errno) => {
                self.complain(
                    b"sh",
                    format!("cannot create {}: {errno}", String::from_utf8_lossy(path)),
                )?;
                Ok(None)
            }
        }
    }

    /// Runs `inner` with `redirections`, which end with it; `None` when one of them fails.
    pub(crate) fn redirected(
        &mut self,
        redirections: &[Redirection],
        inner: impl FnOnce(&mut Self) -> Run<i32>,
    ) -> Run<Option<i32>> {
        if redirections.is_empty() {
            return inner(self).map(Some);
        }
        let saved = self.environment.streams.clone();
        let result = match self.redirect(redirections) {
            Ok(true) => inner(self).map(Some),
            Ok(false) => Ok(None),
            Err(stop) => Err(stop),
        };
        self.environment.streams = saved;
        result
    }

    /// Runs `inner` with its output captured.
    pub(crate) fn captured(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Run<i32>,
    ) -> Run<(i32, Vec<u8>)> {
        let pipe = streams::fd(Stream::Capture(Vec::new()));
        let before: BTreeMap<u32, Fd> = self.environment.streams.clone();
        self.environment.streams.insert(1, pipe.clone());
        let status = inner(self);
        self.environment.streams = before;
        let status = status?;
        let bytes = match &mut *pipe.borrow_mut() {
            Stream::Capture(bytes) => std::mem::take(bytes),
            _ => Vec::new(),
        };
        Ok((status, bytes))
    }
}
