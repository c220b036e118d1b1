//! Lines of a text file.

use dormouse_block::{GuestPath, Result};
use dormouse_filesystem::Guest;
use serde::{Deserialize, Serialize};

use super::Observed;
use crate::Glob;

/// Largest text file read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Which lines of a text file are so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LineProbe {
    /// The file; links are followed.
    pub path: GuestPath,
    /// A whole line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// A pattern over whole lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<Glob>,
}

impl LineProbe {
    pub(super) fn read(&self, guest: &Guest) -> Result<Observed> {
        let Some(bytes) = guest.read(&self.path, MAX_FILE)? else {
            return Ok(Observed::Absent);
        };
        let text = String::from_utf8_lossy(&bytes);
        let is_so = |line: &str| {
            self.line.as_deref() == Some(line)
                || self
                    .matching
                    .as_ref()
                    .is_some_and(|glob| glob.matches(line))
        };
        let mut so = text.lines().enumerate().filter(|(_, line)| is_so(line));
        let first = so.next().map(|(at, _)| at.saturating_add(1));
        let more = so.count();
        Ok(Observed::Lines {
            count: more.saturating_add(usize::from(first.is_some())),
            first,
        })
    }
}
