//! One address for everything: machine, restore point, volume, path.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::GuestPath;

/// Where something is. Parts that do not apply are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Locator {
    /// The machine's name within its library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The restore point's id within the machine (`active`, or a snapshot's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// The volume's name within the point, such as `disk0/gpt2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The path within the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<GuestPath>,
}

impl Locator {
    /// A machine.
    pub fn machine(name: impl Into<String>) -> Self {
        Self {
            machine: Some(name.into()),
            ..Self::default()
        }
    }

    /// The same address, at restore point `id`.
    #[must_use]
    pub fn point(mut self, id: impl Into<String>) -> Self {
        self.point = Some(id.into());
        self
    }

    /// The same address, in volume `name`.
    #[must_use]
    pub fn volume(mut self, name: impl Into<String>) -> Self {
        self.volume = Some(name.into());
        self
    }

    /// The same address, at `path`.
    #[must_use]
    pub fn path(mut self, path: impl Into<GuestPath>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Takes from `outer` each part that is not known here.
    pub fn fill_from(&mut self, outer: &Self) {
        if self.machine.is_none() {
            self.machine.clone_from(&outer.machine);
        }
        if self.point.is_none() {
            self.point.clone_from(&outer.point);
        }
        if self.volume.is_none() {
            self.volume.clone_from(&outer.volume);
        }
        if self.path.is_none() {
            self.path.clone_from(&outer.path);
        }
    }
}

impl fmt::Display for Locator {
    /// `machine@point:volume:path`, leaving out what is absent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = String::new();
        if let Some(machine) = &self.machine {
            parts.push_str(machine);
        }
        if let Some(point) = &self.point {
            parts.push('@');
            parts.push_str(point);
        }
        for part in [
            self.volume.clone(),
            self.path.as_ref().map(ToString::to_string),
        ]
        .into_iter()
        .flatten()
        {
            if !parts.is_empty() {
                parts.push(':');
            }
            parts.push_str(&part);
        }
        f.write_str(&escape_terminal(&parts))
    }
}

/// `text` with every control character and every bidirectional override written as `\u{..}`, so that
/// nothing a guest named can steer a terminal or reorder a line.
#[must_use]
pub fn escape_terminal(text: &str) -> Cow<'_, str> {
    fn steers(c: char) -> bool {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_joins_the_parts_that_are_there() {
        let at = Locator::machine("web-01")
            .point("active")
            .path(GuestPath::new("/etc/passwd").unwrap());
        assert_eq!(at.to_string(), "web-01@active:/etc/passwd");
    }

    #[test]
    fn control_characters_and_overrides_are_spelled_out() {
        assert_eq!(escape_terminal("a\u{1b}b"), "a\\u{1b}b");
        assert_eq!(escape_terminal("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(escape_terminal("plain"), "plain");
    }
}
