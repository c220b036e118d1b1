//! `/var/log/dpkg.log`.

use dormouse_block::{Error, Result};
use dormouse_filesystem::Time;

/// The lines of one run, each with its time.
#[derive(Debug, Clone)]
pub(super) struct Log {
    stamp: String,
    text: String,
}

impl Log {
    /// Lines at the instant `now`. dpkg writes the guest's local time; this writes UTC.
    pub(super) fn at(now: Time) -> Result<Self> {
        let instant = jiff::Timestamp::from_second(now.seconds)
            .map_err(|error| Error::limit("a time beyond the year 9999").because(error))?;
        Ok(Self {
            stamp: instant.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            text: String::new(),
        })
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: &str) {
        self.text.push_str(&self.stamp);
        self.text.push(' ');
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Forgets what was added after `len`.
    pub(super) fn go_back(&mut self, len: usize) {
        self.text.truncate(len);
    }

    /// All of it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}
