//! Questions about single files of a guest, asked while it is open, and their answers, which are facts.
//!
//! Limits: 1,024 questions, configuration files of 1 MiB, 256 files for one pattern, 1,024 values for one question, 1 GiB of
//! bytes for digests in all.

mod edits;
mod line;
mod setting;

use std::collections::BTreeSet;

use dormouse_block::{Digest, Error, ErrorKind, GuestPath, Result, digest_of};
use dormouse_filesystem::{Follow, Guest, NodeKind};
use serde::{Deserialize, Serialize};

pub use edits::{TouchedPath, TouchedState};
pub use line::LineProbe;
pub use setting::{FoundSetting, SettingProbe};

use crate::edit::Edit;
use crate::guest_file::{GuestFile, Scattered};

/// Questions answered of one guest.
const MAX_PROBES: usize = 1024;
/// Bytes read for the digests of one guest.
const MAX_DIGESTED: u64 = 1 << 30;
/// Largest passwd and group database read for names of owners, in bytes.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "about", deny_unknown_fields)]
pub enum Probe {
    /// What a path leads to.
    File {
        /// The path; links are followed.
        path: GuestPath,
        /// Whether the digest of its bytes is wanted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        digest: bool,
    },
    /// What a configuration file sets a key to.
    Setting(SettingProbe),
    /// Which lines of a text file are so.
    Line(LineProbe),
    /// What edits, made in order, would change.
    Edits {
        /// The edits.
        edits: Vec<Edit>,
    },
}

/// A question with its answer: a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Observation {
    /// The question.
    pub probe: Probe,
    /// Its answer.
    pub answer: Observed,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", deny_unknown_fields)]
pub enum Observed {
    /// Nothing is there; for a setting: none of its files is there.
    Absent,
    /// What the path leads to.
    File(ObservedFile),
    /// Every place that sets the key, in the order read; empty where none does.
    Setting {
        /// The places.
        found: Vec<FoundSetting>,
    },
    /// How many lines are so.
    Lines {
        /// Their number.
        count: usize,
        /// The first of them, counted from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<usize>,
    },
    /// What the edits would change; nothing where all is so already.
    Edits {
        /// By path, free of links.
        paths: Vec<TouchedPath>,
    },
    /// The edits cannot be made there.
    Refused {
        /// Why.
        why: String,
    },
    /// It could not be read, and is not known.
    Unread {
        /// Of what kind that is.
        kind: ErrorKind,
        /// Why.
        why: String,
    },
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ObservedFile {
    /// What it is.
    pub kind: NodeKind,
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The owner's name in the guest's /etc/passwd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The group's name in the guest's /etc/group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The digest of its bytes, where it was asked for and it is a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Answers every question, in their order. It never fails: what could not be read is its own answer.
#[must_use]
pub fn observe(guest: &Guest, probes: &BTreeSet<Probe>) -> Vec<Observation> {
    let mut observer = Observer {
        guest,
        digested: 0,
        accounts: None,
    };
    probes
        .iter()
        .enumerate()
        .map(|(nth, probe)| {
            let answer = if nth < MAX_PROBES {
                observer.answer(probe)
            } else {
                Err(Error::limit("more than 1024 questions about one guest"))
            };
            Observation {
                probe: probe.clone(),
                answer: answer.unwrap_or_else(|error| Observed::Unread {
                    kind: error.kind(),
                    why: error.with_causes(),
                }),
            }
        })
        .collect()
}

/// The name of the time zone that a guest is set up for: where `/etc/localtime` leads, else what `/etc/timezone` says.
///
/// Nothing rests on it but the hour at which the machine may be changed; whether it is a zone's name is for others to say.
///
/// # Errors
/// The filesystem's.
pub fn time_zone(guest: &Guest) -> Result<Option<String>> {
    const FOLDER: &str = "zoneinfo/";
    /// Longer than any zone's name.
    const MAX_NAME: u64 = 256;
    let path =
        |text: &str| GuestPath::new(text).map_err(|error| Error::corrupt("no path").because(error));
    let target = guest.read_link(&path("/etc/localtime")?)?;
    let target = target.and_then(|target| String::from_utf8(target).ok());
    if let Some((_, name)) = target
        .as_deref()
        .and_then(|target| target.split_once(FOLDER))
    {
        return Ok(Some(name.to_owned()));
    }
    let text = guest.read(&path("/etc/timezone")?, MAX_NAME)?;
    Ok(text
        .and_then(|text| String::from_utf8(text).ok())
        .map(|text| text.trim().to_owned())
        .filter(|name| !name.is_empty()))
}

struct Observer<'a> {
    guest: &'a Guest,
    digested: u64,
    /// Lines of passwd and of group, read when the first file is asked about.
    accounts: Option<[String; 2]>,
}

impl Observer<'_> {
    fn answer(&mut self, probe: &Probe) -> Result<Observed> {
        match probe {
            Probe::File { path, digest } => self.file(path, *digest),
            Probe::Setting(setting) => setting.read(self.guest),
            Probe::Line(line) => line.read(self.guest),
            Probe::Edits { edits } => edits::answer(self.guest, edits),
        }
    }

    fn file(&mut self, path: &GuestPath, digest: bool) -> Result<Observed> {
        let Some(metadata) = self.guest.metadata(path, Follow::Links)? else {
            // A link that leads nowhere is there all the same.
            return Ok(match self.guest.metadata(path, Follow::No)? {
                None => Observed::Absent,
                Some(link) => Observed::File(ObservedFile {
                    kind: link.kind,
                    mode: link.mode,
                    uid: link.uid,
                    gid: link.gid,
                    owner: self.name(0, link.uid)?,
                    group: self.name(1, link.gid)?,
                    digest: None,
                }),
            });
        };
        let digest = if digest && metadata.kind == NodeKind::File {
            self.digested = self.digested.saturating_add(metadata.size);
            if self.digested > MAX_DIGESTED {
                return Err(Error::limit("more than 1 GiB of files to digest"));
            }
            Some(self.digest(path)?)
        } else {
            None
        };
        Ok(Observed::File(ObservedFile {
            kind: metadata.kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            owner: self.name(0, metadata.uid)?,
            group: self.name(1, metadata.gid)?,
            digest,
        }))
    }

    fn digest(&self, path: &GuestPath) -> Result<Digest> {
        let file = GuestFile::open(self.guest, path)?;
        let file = file.ok_or_else(|| Error::corrupt("the file is there and cannot be opened"))?;
        digest_of(&Scattered::from(file))
    }

    /// The name that the guest's own database gives a number.
    fn name(&mut self, which: usize, id: u32) -> Result<Option<String>> {
        if self.accounts.is_none() {
            let read = |path: &str| -> Result<String> {
                let path = GuestPath::new(path)
                    .map_err(|error| Error::corrupt("no path").because(error))?;
                let bytes = self.guest.read(&path, MAX_ACCOUNTS)?.unwrap_or_default();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            };
            self.accounts = Some([read("/etc/passwd")?, read("/etc/group")?]);
        }
        let lines = self
            .accounts
            .as_ref()
            .and_then(|accounts| accounts.get(which))
            .map(|text| text.lines());
        let wanted = id.to_string();
        Ok(lines.into_iter().flatten().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            (fields.nth(1) == Some(&wanted)).then(|| name.to_owned())
        }))
    }
}
