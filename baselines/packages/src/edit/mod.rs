//! Edits of a guest's files: what is to be made of them, and what that would change.
//!
//! An edit says how something is to be, not what is to be done, so one made twice is made once. [`rehearse`] finds out what a
//! list of edits would change over a guest that it only asks, and changes nothing itself: a probe answers with it, and an
//! injection carries it out. Links on the way are followed within the guest; one that leads above its root is refused.
//!
//! Limits: 64 edits of one list, text files of 1 MiB, whole files of 64 MiB, content of 256 KiB, values and lines of 4 KiB.

mod entry;
mod lines;
mod place;
mod scene;
mod setting;

use std::fmt;

use dormouse_block::GuestPath;
use serde::{Deserialize, Serialize};

use crate::{Account, Glob, Mode, SettingProbe};

pub use scene::{Body, Change, Ground, MAX_WHOLE, Node, rehearse};

/// Edits of one list.
pub const MAX_EDITS: usize = 64;
/// Largest text file that is edited, in bytes.
pub(crate) const MAX_TEXT: u64 = 1 << 20;

/// One thing that is to be so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", try_from = "entry::Entry")]
pub enum Edit {
    /// A configuration file sets a key to a value.
    Set(SettingEdit),
    /// A text file has a line, or has none of its kind.
    Line(LineEdit),
    /// A file has these bytes.
    Write(WholeFile),
    /// Nothing is there; a directory is never removed.
    Remove(Removal),
    /// What is there has this owner, group and mode.
    Attributes(Ownership),
    /// A symbolic link is there.
    Symlink(Link),
}

/// A key of a configuration file, and its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SettingEdit {
    /// The file; links are followed.
    pub path: GuestPath,
    /// The section; absent means before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// The key.
    pub key: String,
    /// The value, in quotes where the file is to have them. A value that is set keeps the quotes that it has there.
    pub value: String,
    /// What stands between key and value; written so where no other setting shows how the file writes it.
    pub separator: String,
    /// What a line that is a comment begins with, each one character.
    pub comments: String,
    /// Whether `Key` and `key` are the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
    /// The first word of a line at which what holds for all ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    /// Whether a file that is not there is made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
}

impl SettingEdit {
    /// The question what the file sets the key to.
    #[must_use]
    pub fn probe(&self) -> SettingProbe {
        SettingProbe {
            paths: vec![self.path.to_string()],
            section: self.section.clone(),
            key: self.key.clone(),
            separator: self.separator.clone(),
            comments: self.comments.clone(),
            ignore_case: self.ignore_case,
            ends_at: self.ends_at.clone(),
        }
    }
}

/// A line of a text file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LineEdit {
    /// The file; links are followed.
    pub path: GuestPath,
    /// The line that is to be there once, or never; without its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// The lines that it takes the place of, or that are to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<Glob>,
    /// Whether it is to be there.
    pub state: LineState,
    /// A new line comes after the last one that matches this; at the end where none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Glob>,
    /// Whether a file that is not there is made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
}

/// Whether a line is to be there.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum LineState {
    /// It is.
    #[default]
    Present,
    /// It is not.
    Absent,
}

/// A file and all its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WholeFile {
    /// Where; a link there is replaced, missing directories are made.
    pub path: GuestPath,
    /// Its bytes.
    pub content: String,
    /// Its owner; what is there keeps its own, a new one is root's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Account>,
    /// Its group, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
    /// Its mode; what is there keeps its own, a new one has 0644.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// A file that is not to be there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Removal {
    /// Where; a link there is removed itself.
    pub path: GuestPath,
}

/// Owner, group and mode of what is at a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ownership {
    /// Where; links are followed.
    pub path: GuestPath,
    /// Its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Account>,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
    /// Its mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Link {
    /// Where; missing directories are made.
    pub path: GuestPath,
    /// What it holds, absolute or from its own directory.
    pub target: String,
}

impl Edit {
    /// The path that it names.
    #[must_use]
    pub fn path(&self) -> &GuestPath {
        match self {
            Self::Set(edit) => &edit.path,
            Self::Line(edit) => &edit.path,
            Self::Write(edit) => &edit.path,
            Self::Remove(edit) => &edit.path,
            Self::Attributes(edit) => &edit.path,
            Self::Symlink(edit) => &edit.path,
        }
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        match self {
            Self::Set(edit) => {
                let section = edit.section.as_ref().map(|name| format!("[{name}] "));
                let (key, value) = (&edit.key, &edit.value);
                write!(f, "{path}: {}{key} = {value}", section.unwrap_or_default())
            }
            Self::Line(edit) => {
                let what = match (&edit.line, &edit.matching) {
                    (Some(line), _) => format!("{line:?}"),
                    (None, Some(matching)) => format!("\"{matching}\""),
                    (None, None) => String::new(),
                };
                let is = match edit.state {
                    LineState::Present => "has the line",
                    LineState::Absent => "has no line",
                };
                write!(f, "{path}: {is} {what}")
            }
            Self::Write(edit) => write!(f, "{path}: written, {} bytes", edit.content.len()),
            Self::Remove(_) => write!(f, "{path}: removed"),
            Self::Attributes(edit) => {
                let owner = edit.owner.as_ref().map(|owner| format!(" owner {owner}"));
                let group = edit.group.as_ref().map(|group| format!(" group {group}"));
                let mode = edit.mode.map(|mode| format!(" mode {mode}"));
                let all = [owner, group, mode].into_iter().flatten();
                write!(f, "{path}:{}", all.collect::<String>())
            }
            Self::Symlink(edit) => write!(f, "{path}: a link to {}", edit.target),
        }
    }
}
