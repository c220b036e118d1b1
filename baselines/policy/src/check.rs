//! Checks of files and settings: what is asked of a guest, and what its answers say.
//!
//! A baseline never sees a guest. It says what it wants to know ([`crate::Baseline::probes`]); whoever has the guest
//! open answers, and the answers are facts that are judged here.

use dormouse_advisories::Severity;
use dormouse_block::{Digest, GuestPath};
use dormouse_packages::{
    Account, FoundSetting, Mode, NodeKind, Observed, ObservedFile, Probe, SettingProbe,
};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Why an answer that is none to a question says nothing.
pub(crate) const ANOTHER: &str = "another question's answer";

/// A file, and how it must be. What is left out is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileCheck {
    /// By what findings name it; each once. A condition of a fix has none.
    #[serde(default)]
    pub id: String,
    /// Its path; links are followed.
    #[serde(deserialize_with = "absolute")]
    pub path: GuestPath,
    /// Whether it must be there.
    #[serde(default)]
    pub state: FileState,
    /// Its owner, by name or number.
    #[serde(default)]
    pub owner: Option<Account>,
    /// Its group, by name or number.
    #[serde(default)]
    pub group: Option<Account>,
    /// Its mode, in octal.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The bits that its mode may have, in octal.
    #[serde(default)]
    pub mode_at_most: Option<Mode>,
    /// The digests that its bytes may have.
    #[serde(default)]
    pub digests: Vec<Digest>,
    /// How bad it is when it is not so.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Whether a file must be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// It must.
    #[default]
    Present,
    /// It must not.
    Absent,
    /// It may; if it is there it must be as is said.
    Optional,
}

/// A key of a configuration file, and its value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SettingCheck {
    /// By what findings name it; each once. A condition of a fix has none.
    #[serde(default)]
    pub id: String,
    /// The files, in the order in which their program reads them; `*` in the last component stands for any run of
    /// characters.
    #[serde(deserialize_with = "all_absolute")]
    pub paths: Vec<String>,
    /// The section that the key is in.
    #[serde(default)]
    pub section: Option<String>,
    /// The key.
    pub key: String,
    /// What stands between key and value.
    #[serde(default = "equals")]
    pub separator: String,
    /// What comments begin with.
    #[serde(default = "hash_and_semicolon")]
    pub comments: String,
    /// Whether `Key` and `key` are the same.
    #[serde(default)]
    pub ignore_case: bool,
    /// The first word of a line at which what holds for all ends.
    #[serde(default)]
    pub ends_at: Option<String>,
    /// Which of several places counts.
    #[serde(default)]
    pub counts: Counts,
    /// The values allowed.
    #[serde(default)]
    pub values: Vec<String>,
    /// The least number allowed.
    #[serde(default)]
    pub at_least: Option<i64>,
    /// The greatest number allowed.
    #[serde(default)]
    pub at_most: Option<i64>,
    /// The value that the program takes where nothing sets the key.
    #[serde(default)]
    pub default: Option<String>,
    /// How bad it is when it is not so.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Which of several places that set a key counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// The last, as most programs have it.
    #[default]
    Last,
    /// The first, as sshd has it.
    First,
    /// All of them.
    Every,
}

fn equals() -> String {
    "=".into()
}

fn hash_and_semicolon() -> String {
    "#;".into()
}

/// A path of the guest that begins at its root.
fn from_root(text: &str) -> Result<GuestPath, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} does not begin with /"));
    }
    GuestPath::new(text).map_err(|error| format!("{text:?}: {error}"))
}

pub(crate) fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GuestPath, D::Error> {
    from_root(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn all_absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let paths = Vec::<String>::deserialize(deserializer)?;
    if paths.is_empty() {
        return Err(D::Error::custom("at least one path is wanted"));
    }
    for path in &paths {
        from_root(path).map_err(D::Error::custom)?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.contains('*') {
            return Err(D::Error::custom(format!(
                "{path:?}: a * may stand in the last component alone"
            )));
        }
    }
    Ok(paths)
}

/// What a check says of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    /// As it must be.
    Right,
    /// Not so: what was wanted, and what was found.
    Wrong { expected: String, found: String },
    /// Not known, and why.
    Unknown(String),
}

impl FileCheck {
    /// What it asks.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe::File {
            path: self.path.clone(),
            digest: !self.digests.is_empty() && self.state != FileState::Absent,
        }
    }

    pub(crate) fn judge(&self, answer: &Observed) -> Answered {
        let wrong = |expected: String, found: String| Answered::Wrong { expected, found };
        match (answer, self.state) {
            (Observed::Unread { why, .. }, _) => Answered::Unknown(why.clone()),
            (Observed::Absent, FileState::Present) => wrong(self.wanted(), "absent".into()),
            (Observed::Absent, FileState::Absent | FileState::Optional) => Answered::Right,
            (Observed::File(_), FileState::Absent) => wrong("absent".into(), "present".into()),
            (Observed::File(file), _) => {
                let found = self.differences(file);
                if found.is_empty() {
                    Answered::Right
                } else {
                    wrong(self.wanted(), found.join(", "))
                }
            }
            _ => Answered::Unknown(ANOTHER.into()),
        }
    }

    fn wanted(&self) -> String {
        let mut wanted = Vec::new();
        if let Some(owner) = &self.owner {
            wanted.push(format!("owner {owner}"));
        }
        if let Some(group) = &self.group {
            wanted.push(format!("group {group}"));
        }
        if let Some(mode) = self.mode {
            wanted.push(format!("mode {mode}"));
        }
        if let Some(mode) = self.mode_at_most {
            wanted.push(format!("mode {mode} at most"));
        }
        if let Some(digest) = self.digests.first() {
            let others = self.digests.len().saturating_sub(1);
            let more = if others == 0 {
                String::new()
            } else {
                format!(" or {others} others")
            };
            wanted.push(format!("{digest}{more}"));
        }
        if wanted.is_empty() {
            wanted.push("present".into());
        }
        wanted.join(", ")
    }

    fn differences(&self, file: &ObservedFile) -> Vec<String> {
        let mut found = Vec::new();
        let named = |name: &Option<String>, id: u32| name.clone().unwrap_or_else(|| id.to_string());
        if let Some(owner) = &self.owner
            && !owner.is(file.uid, file.owner.as_deref())
        {
            found.push(format!("owner {}", named(&file.owner, file.uid)));
        }
        if let Some(group) = &self.group
            && !group.is(file.gid, file.group.as_deref())
        {
            found.push(format!("group {}", named(&file.group, file.gid)));
        }
        let mode_is_wrong = self.mode.is_some_and(|mode| mode.bits() != file.mode)
            || self
                .mode_at_most
                .is_some_and(|most| file.mode & !most.bits() != 0);
        if mode_is_wrong {
            found.push(format!("mode {}", Mode::new(file.mode)));
        }
        if !self.digests.is_empty() {
            match file.digest {
                Some(digest) if self.digests.contains(&digest) => {}
                Some(digest) => found.push(digest.to_string()),
                None => found.push(format!("no regular file but {}", kind(file.kind))),
            }
        }
        found
    }
}

fn kind(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "a file",
        NodeKind::Directory => "a directory",
        NodeKind::Symlink => "a link that leads nowhere",
        NodeKind::CharDevice | NodeKind::BlockDevice => "a device",
        NodeKind::Fifo => "a pipe",
        NodeKind::Socket => "a socket",
    }
}

impl SettingCheck {
    /// What it asks.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe::Setting(SettingProbe {
            paths: self.paths.clone(),
            section: self.section.clone(),
            key: self.key.clone(),
            separator: self.separator.clone(),
            comments: self.comments.clone(),
            ignore_case: self.ignore_case,
            ends_at: self.ends_at.clone(),
        })
    }

    /// What is wrong with it, if anything.
    pub(crate) fn why_bad(&self) -> Option<String> {
        let nothing = self.values.is_empty() && self.at_least.is_none() && self.at_most.is_none();
        nothing.then(|| {
            format!(
                "the setting {:?} allows no value: give values, at-least or at-most",
                self.id
            )
        })
    }

    pub(crate) fn judge(&self, answer: &Observed) -> Answered {
        let found: &[FoundSetting] = match answer {
            Observed::Setting { found } => found,
            Observed::Absent => &[],
            Observed::Unread { why, .. } => return Answered::Unknown(why.clone()),
            _ => return Answered::Unknown(ANOTHER.into()),
        };
        let counting: Vec<&FoundSetting> = match self.counts {
            Counts::First => found.first().into_iter().collect(),
            Counts::Last => found.last().into_iter().collect(),
            Counts::Every => found.iter().collect(),
        };
        let wrong = |found: String| Answered::Wrong {
            expected: self.wanted(),
            found,
        };
        if let Some(bad) = counting.iter().find(|one| !self.allows(&one.value)) {
            return wrong(format!("{} ({} line {})", bad.value, bad.path, bad.line));
        }
        if !counting.is_empty() {
            return Answered::Right;
        }
        match &self.default {
            Some(default) if self.allows(default) => Answered::Right,
            Some(default) => wrong(format!("not set, which means {default}")),
            None if *answer == Observed::Absent => wrong("no such file".into()),
            None => wrong("not set".into()),
        }
    }

    fn allows(&self, value: &str) -> bool {
        let number = value.parse::<i64>().ok();
        let listed = self.values.iter().any(|allowed| {
            if self.ignore_case {
                allowed.eq_ignore_ascii_case(value)
            } else {
                allowed == value
            }
        });
        let bounded = self.at_least.is_some() || self.at_most.is_some();
        let within = bounded
            && number.is_some_and(|number| {
                self.at_least.is_none_or(|least| number >= least)
                    && self.at_most.is_none_or(|most| number <= most)
            });
        listed || within
    }

    fn wanted(&self) -> String {
        let mut wanted = self.values.clone();
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => wanted.push(format!("{least} to {most}")),
            (Some(least), None) => wanted.push(format!("at least {least}")),
            (None, Some(most)) => wanted.push(format!("at most {most}")),
            (None, None) => {}
        }
        format!("{} = {}", self.key, wanted.join(" or "))
    }
}
