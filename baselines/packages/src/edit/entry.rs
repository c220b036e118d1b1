//! An edit as it is written: one table of keys, held against what its kind of edit takes.

use dormouse_block::GuestPath;
use serde::Deserialize;

use super::{Edit, LineEdit, LineState, Link, Ownership, Removal, SettingEdit, WholeFile};
use crate::edit::place::why_not_to_be_edited;
use crate::{Account, Glob, Mode};

/// Longest key, section, set of comment characters or name of an account, in bytes.
const MAX_WORD: usize = 256;
/// Longest value, line, pattern or target, in bytes.
const MAX_LINE: usize = 4095;
/// Largest content of a whole file, in bytes: configuration, not programs.
const MAX_CONTENT: usize = 256 << 10;

/// Every key of every kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Entry {
    r#do: Kind,
    path: String,
    section: Option<String>,
    key: Option<String>,
    value: Option<String>,
    separator: Option<String>,
    comments: Option<String>,
    ignore_case: Option<bool>,
    ends_at: Option<String>,
    create: Option<bool>,
    line: Option<String>,
    matching: Option<Glob>,
    state: Option<LineState>,
    after: Option<Glob>,
    content: Option<String>,
    owner: Option<Account>,
    group: Option<Account>,
    mode: Option<Mode>,
    target: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Set,
    Line,
    Write,
    Remove,
    Attributes,
    Symlink,
}

impl Kind {
    /// Its name, and the keys that it takes beside `do` and `path`.
    fn keys(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Set => (
                "set",
                &[
                    "section",
                    "key",
                    "value",
                    "separator",
                    "comments",
                    "ignore-case",
                    "ends-at",
                    "create",
                ],
            ),
            Self::Line => ("line", &["line", "matching", "state", "after", "create"]),
            Self::Write => ("write", &["content", "owner", "group", "mode"]),
            Self::Remove => ("remove", &[]),
            Self::Attributes => ("attributes", &["owner", "group", "mode"]),
            Self::Symlink => ("symlink", &["target"]),
        }
    }
}

impl Entry {
    fn given(&self) -> [(&'static str, bool); 17] {
        [
            ("section", self.section.is_some()),
            ("key", self.key.is_some()),
            ("value", self.value.is_some()),
            ("separator", self.separator.is_some()),
            ("comments", self.comments.is_some()),
            ("ignore-case", self.ignore_case.is_some()),
            ("ends-at", self.ends_at.is_some()),
            ("create", self.create.is_some()),
            ("line", self.line.is_some()),
            ("matching", self.matching.is_some()),
            ("state", self.state.is_some()),
            ("after", self.after.is_some()),
            ("content", self.content.is_some()),
            ("owner", self.owner.is_some()),
            ("group", self.group.is_some()),
            ("mode", self.mode.is_some()),
            ("target", self.target.is_some()),
        ]
    }

    fn check(&self, path: &GuestPath) -> Result<(), String> {
        let (kind, takes) = self.r#do.keys();
        let odd = self.given().into_iter().find(|(key, given)| {
            let is_taken = takes.contains(key);
            *given && !is_taken
        });
        if let Some((key, _)) = odd {
            return Err(format!("an edit that does {kind:?} takes no `{key}`"));
        }
        if path.is_root() {
            return Err("the root cannot be edited".into());
        }
        if let Some(why) = why_not_to_be_edited(path) {
            return Err(format!("{path} {why}"));
        }
        for (key, text) in [
            ("section", &self.section),
            ("key", &self.key),
            ("separator", &self.separator),
            ("comments", &self.comments),
            ("ends-at", &self.ends_at),
        ] {
            one_line(key, text.as_deref(), MAX_WORD)?;
        }
        let matching = self.matching.as_ref().map(ToString::to_string);
        let after = self.after.as_ref().map(ToString::to_string);
        for (key, text) in [
            ("value", &self.value),
            ("line", &self.line),
            ("matching", &matching),
            ("after", &after),
            ("target", &self.target),
        ] {
            one_line(key, text.as_deref(), MAX_LINE)?;
        }
        for (key, account) in [("owner", &self.owner), ("group", &self.group)] {
            if let Some(Account::Name(name)) = account {
                one_line(key, Some(name), MAX_WORD)?;
                if name.is_empty() || name.contains([':', '/']) || name.starts_with('-') {
                    return Err(format!("`{key}`: {name:?} is no name of an account"));
                }
            }
        }
        Ok(())
    }
}

/// Text of one line, without characters that no configuration file has.
fn one_line(key: &str, text: Option<&str>, most: usize) -> Result<(), String> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > most {
        return Err(format!("`{key}` has more than {most} bytes"));
    }
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some(odd) => Err(format!("`{key}` has the character {odd:?}")),
        None => Ok(()),
    }
}

fn wanted<T>(key: &str, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("missing key `{key}`"))
}

impl TryFrom<Entry> for Edit {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        if !entry.path.starts_with('/') {
            return Err(format!("`path`: {:?} does not begin with /", entry.path));
        }
        let path = GuestPath::new(&entry.path)
            .map_err(|error| format!("`path`: {:?}: {error}", entry.path))?;
        entry.check(&path)?;
        match entry.r#do {
            Kind::Set => setting(entry, path).map(Self::Set),
            Kind::Line => line(entry, path).map(Self::Line),
            Kind::Write => {
                let content = wanted("content", entry.content)?;
                if content.len() > MAX_CONTENT {
                    return Err(format!("`content` has more than {MAX_CONTENT} bytes"));
                }
                Ok(Self::Write(WholeFile {
                    path,
                    content,
                    owner: entry.owner,
                    group: entry.group,
                    mode: entry.mode,
                }))
            }
            Kind::Remove => Ok(Self::Remove(Removal { path })),
            Kind::Attributes => {
                if entry.owner.is_none() && entry.group.is_none() && entry.mode.is_none() {
                    return Err("attributes want an `owner`, a `group` or a `mode`".into());
                }
                Ok(Self::Attributes(Ownership {
                    path,
                    owner: entry.owner,
                    group: entry.group,
                    mode: entry.mode,
                }))
            }
            Kind::Symlink => {
                let target = wanted("target", entry.target)?;
                if target.is_empty() {
                    return Err("`target` is empty".into());
                }
                Ok(Self::Symlink(Link { path, target }))
            }
        }
    }
}

fn setting(entry: Entry, path: GuestPath) -> Result<SettingEdit, String> {
    let edit = SettingEdit {
        path,
        section: entry.section,
        key: wanted("key", entry.key)?,
        value: wanted("value", entry.value)?,
        separator: entry.separator.unwrap_or_else(|| "=".into()),
        comments: entry.comments.unwrap_or_else(|| "#;".into()),
        ignore_case: entry.ignore_case.unwrap_or_default(),
        ends_at: entry.ends_at,
        create: entry.create.unwrap_or_default(),
    };
    let separator = edit.separator.trim();
    let key = &edit.key;
    let splits = if separator.is_empty() {
        key.contains(char::is_whitespace)
    } else {
        key.contains(separator)
    };
    if key.is_empty() || key.trim() != key || splits {
        return Err(format!(
            "`key`: {key:?} is empty, has blanks around it, or has the separator in it"
        ));
    }
    if key.starts_with(|first| first == '[' || edit.comments.contains(first)) {
        return Err(format!(
            "`key`: {key:?} begins as a comment or a section does"
        ));
    }
    if edit.separator.is_empty() || !edit.separator.is_ascii() || !edit.comments.is_ascii() {
        return Err("`separator` is empty, or it or `comments` are not ASCII".into());
    }
    if edit.value.trim() != edit.value || (separator.is_empty() && edit.value.is_empty()) {
        return Err("`value` is empty or has blanks around it".into());
    }
    let plain = edit.probe().plain(&edit.value);
    let is_quoted =
        edit.value.starts_with(['"', '\'']) && edit.value.len() == plain.len().saturating_add(2);
    if plain != edit.value && !is_quoted {
        return Err(format!(
            "`value`: {:?} reads as {plain:?}; put it in quotes, or leave the comment out",
            edit.value
        ));
    }
    if let Some(section) = &edit.section
        && (section.trim() != section || section.is_empty() || section.contains(']'))
    {
        return Err(format!("`section`: {section:?} is no name of one"));
    }
    Ok(edit)
}

fn line(entry: Entry, path: GuestPath) -> Result<LineEdit, String> {
    let edit = LineEdit {
        path,
        line: entry.line,
        matching: entry.matching,
        state: entry.state.unwrap_or_default(),
        after: entry.after,
        create: entry.create.unwrap_or_default(),
    };
    match edit.state {
        LineState::Present if edit.line.is_none() => Err("missing key `line`".into()),
        LineState::Absent if edit.line.is_some() == edit.matching.is_some() => {
            Err("a line that is to be absent wants one of `line` and `matching`".into())
        }
        LineState::Absent if edit.after.is_some() || edit.create => {
            Err("a line that is to be absent takes no `after` and no `create`".into())
        }
        _ => Ok(edit),
    }
}
