//! By what a power state is known.

use std::path::Path;

use dormouse_disk::{StateEvidence, StateMeaning};
use serde::{Deserialize, Serialize};

/// What a piece of evidence shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerSign {
    /// Memory was saved, and the machine can go on from it.
    Suspended,
    /// A state was being written, or its writing was broken off.
    Unfinished,
    /// The system sleeps with its memory on its own disk.
    Hibernated,
    /// Its filesystems were in use when it stopped, and no memory says how it went on.
    Crashed,
    /// A program has it open for writing.
    Running,
    /// A copy of its memory, from which nothing goes on.
    Dump,
}

/// A piece of evidence of what a machine would wake from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PowerEvidence {
    /// What it shows.
    pub shows: PowerSign,
    /// Where it is: a host file by its name, a snapshot in one, a volume, or a file of the guest.
    pub place: String,
    /// The format of what stands there, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The magic, spelled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magic: Option<String>,
    /// Where the magic stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What it says, one clause each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub says: Vec<String>,
    /// Whether the format was ever read as its own product writes it.
    pub verified: bool,
}

impl PowerEvidence {
    /// Evidence without a magic.
    pub(crate) fn told(
        shows: PowerSign,
        place: impl Into<String>,
        says: impl Into<String>,
    ) -> Self {
        Self {
            shows,
            place: place.into(),
            format: None,
            magic: None,
            offset: None,
            says: vec![says.into()],
            verified: true,
        }
    }

    /// A magic that stands somewhere.
    pub(crate) fn magic(
        shows: PowerSign,
        place: impl Into<String>,
        (offset, magic): (u64, String),
        format: &str,
    ) -> Self {
        Self {
            shows,
            place: place.into(),
            format: Some(format.to_owned()),
            magic: Some(magic),
            offset: Some(offset),
            says: Vec::new(),
            verified: true,
        }
    }

    /// What a saved state shows.
    pub(crate) fn of_state(place: impl Into<String>, state: &StateEvidence) -> Self {
        Self {
            shows: match state.meaning {
                StateMeaning::Suspended => PowerSign::Suspended,
                StateMeaning::Unfinished => PowerSign::Unfinished,
                StateMeaning::Dump => PowerSign::Dump,
            },
            place: place.into(),
            format: Some(state.format.clone()),
            magic: Some(state.magic.clone()),
            offset: Some(state.offset),
            says: state.says.clone(),
            verified: state.verified,
        }
    }
}

/// The name of a host file, as evidence gives it: the same wherever the library lies.
pub(crate) fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    dormouse_block::escape_terminal(&name).into_owned()
}
