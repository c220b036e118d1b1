//! How reading, judging and writing fail: a kind, a place, and the cause.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Locator;

/// Result of this workspace's libraries.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who can do something about a failure. New formats add no kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The host failed: a read, a write, a full disk. Another run may succeed.
    Io,
    /// The input is broken; nothing we build would read it rightly.
    Corrupt,
    /// The input is sound as far as we can tell, and we cannot read it (yet).
    Unsupported,
    /// A named bound on size, count or depth was met.
    Limit,
    /// Policy forbids it: a file outside the allowed folders, a disk that a saved memory depends on.
    Denied,
    /// The caller asked to stop.
    Cancelled,
}

impl ErrorKind {
    /// The kind as facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A failure: its kind, what was wrong in lower case, where, and what caused it.
///
/// `Display` says what and where; the cause is left to [`std::error::Error::source`].
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    what: Cow<'static, str>,
    offset: Option<u64>,
    file: Option<String>,
    at: Locator,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of `kind`; `what` is a lower-case clause without a full stop.
    pub fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            offset: None,
            file: None,
            at: Locator::default(),
            source: None,
        }))
    }

    /// The input is broken.
    pub fn corrupt(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, what)
    }

    /// The input asks for something this version does not read.
    pub fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, what)
    }

    /// A named bound was met.
    pub fn limit(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Limit, what)
    }

    /// Policy forbids it.
    pub fn denied(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Denied, what)
    }

    /// The host failed while doing `what`.
    pub fn io(what: impl Into<Cow<'static, str>>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, what).because(source)
    }

    /// The caller asked to stop.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Adds the byte offset, in the space the message speaks of.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Adds the host file (or the name of the byte source) concerned.
    #[must_use]
    pub fn in_file(mut self, file: impl fmt::Display) -> Self {
        self.0.file.get_or_insert_with(|| file.to_string());
        self
    }

    /// Fills what is not yet known of the address; an inner, more exact part wins.
    #[must_use]
    pub fn located(mut self, at: &Locator) -> Self {
        self.0.at.fill_from(at);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Who can do something about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The address, as far as it is known.
    #[must_use]
    pub fn locator(&self) -> &Locator {
        &self.0.at
    }

    /// What happened, where, and every cause below it, in one line.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            what,
            offset,
            file,
            at,
            ..
        } = self.0.as_ref();
        f.write_str(&crate::escape_terminal(what))?;
        if let Some(offset) = offset {
            write!(f, " at byte {offset}")?;
        }
        if let Some(file) = file {
            write!(f, " of {}", crate::escape_terminal(file))?;
        }
        if *at != Locator::default() {
            write!(f, " ({at})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Something that was not read or not judged, and why: a fact of the answer, never a log line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Gap {
    /// What was not read.
    pub at: Locator,
    /// Who can do something about it.
    pub kind: ErrorKind,
    /// Why, in one lower-case clause.
    pub why: String,
    /// Whether what was not read may hold packages; if so nothing here can be called compliant.
    pub may_hide_packages: bool,
}

impl Gap {
    /// The gap that `error` leaves at `at`; anything unread may hide packages unless shown otherwise.
    #[must_use]
    pub fn from_error(error: &Error, at: &Locator) -> Self {
        let mut place = error.locator().clone();
        place.fill_from(at);
        Self {
            at: place,
            kind: error.kind(),
            why: error.with_causes(),
            may_hide_packages: true,
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, crate::escape_terminal(&self.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_what_and_where_and_not_its_cause() {
        let error = Error::io("reading the header", std::io::Error::other("disk on fire"))
            .at_offset(512)
            .in_file("a.qcow2");
        assert_eq!(
            error.to_string(),
            "reading the header at byte 512 of a.qcow2"
        );
        assert!(error.with_causes().ends_with(": disk on fire"));
    }

    #[test]
    fn terminal_escapes_of_a_guest_are_not_passed_on() {
        let error = Error::corrupt("bad name \u{1b}[31mred");
        assert!(!error.to_string().contains('\u{1b}'));
    }

    #[test]
    fn the_inner_address_wins() {
        let outer = Locator::machine("web-01").point("active");
        let inner = Locator::default().point("snap");
        let error = Error::corrupt("x").located(&inner).located(&outer);
        assert_eq!(error.locator().point.as_deref(), Some("snap"));
        assert_eq!(error.locator().machine.as_deref(), Some("web-01"));
    }
}
