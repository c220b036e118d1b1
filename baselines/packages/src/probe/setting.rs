//! Keys and values of configuration files: lines, sections in brackets, comments.

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::Guest;
use serde::{Deserialize, Serialize};

use super::Observed;

/// Largest configuration file read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Files that one pattern may stand for.
const MAX_FILES: usize = 256;
/// Places that one key may be set at.
const MAX_FOUND: usize = 1024;

/// What a configuration file sets a key to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SettingProbe {
    /// The files, in the order in which their program reads them. A `*` in the last component stands for any run of
    /// characters but a leading dot; files found so are read in the order of their names.
    pub paths: Vec<String>,
    /// The section, written `[section]` in the file; absent means before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// The key.
    pub key: String,
    /// What stands between key and value; blanks stand for any run of them.
    pub separator: String,
    /// What a line that is a comment begins with, each one character.
    pub comments: String,
    /// Whether `Key` and `key` are the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
    /// The first word of a line at which what holds for all ends, as `Match` does in sshd_config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
}

/// A place that sets a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FoundSetting {
    /// The file.
    pub path: GuestPath,
    /// The line, counted from 1.
    pub line: u32,
    /// The value, without blanks around it, quotes, and a comment after it.
    pub value: String,
}

impl SettingProbe {
    pub(super) fn read(&self, guest: &Guest) -> Result<Observed> {
        let mut found = Vec::new();
        let mut any = false;
        for path in &self.paths {
            for path in files(guest, path)? {
                let Some(bytes) = guest.read(&path, MAX_FILE)? else {
                    continue;
                };
                any = true;
                self.scan(&path, &String::from_utf8_lossy(&bytes), &mut found)?;
            }
        }
        Ok(if any {
            Observed::Setting { found }
        } else {
            Observed::Absent
        })
    }

    pub(crate) fn scan(
        &self,
        path: &GuestPath,
        text: &str,
        found: &mut Vec<FoundSetting>,
    ) -> Result<()> {
        let mut section: Option<&str> = None;
        for (number, line) in (1_u32..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(|first| self.comments.contains(first)) {
                continue;
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.split_once(']'))
                .map(|(name, _)| name.trim())
            {
                section = Some(name);
                continue;
            }
            let word = line.split_whitespace().next().unwrap_or_default();
            if self
                .ends_at
                .as_ref()
                .is_some_and(|end| self.same(word, end))
            {
                break;
            }
            if section != self.section.as_deref() {
                continue;
            }
            let Some(value) = self.value_in(line) else {
                continue;
            };
            if found.len() >= MAX_FOUND {
                return Err(Error::limit("a key that is set at more than 1024 places"));
            }
            found.push(FoundSetting {
                path: path.clone(),
                line: number,
                value: self.plain(value),
            });
        }
        Ok(())
    }

    pub(crate) fn same(&self, a: &str, b: &str) -> bool {
        if self.ignore_case {
            a.eq_ignore_ascii_case(b)
        } else {
            a == b
        }
    }

    /// The value that a line sets the key to, if it is the key that it sets.
    pub(crate) fn value_in<'a>(&self, line: &'a str) -> Option<&'a str> {
        let separator = self.separator.trim();
        let (key, value) = if separator.is_empty() {
            line.split_once(char::is_whitespace).unwrap_or((line, ""))
        } else {
            line.split_once(separator)?
        };
        self.same(key.trim(), &self.key).then(|| value.trim())
    }

    /// A value without its quotes, or without the comment after it.
    pub(crate) fn plain(&self, value: &str) -> String {
        for quote in ['"', '\''] {
            if let Some((inner, _)) = value
                .strip_prefix(quote)
                .and_then(|rest| rest.split_once(quote))
            {
                return inner.to_owned();
            }
        }
        let mut blank = false;
        for (at, character) in value.char_indices() {
            if blank && self.comments.contains(character) {
                return value.get(..at).unwrap_or(value).trim_end().to_owned();
            }
            blank = character.is_whitespace();
        }
        value.to_owned()
    }
}

/// The files that a path or a pattern stands for.
fn files(guest: &Guest, pattern: &str) -> Result<Vec<GuestPath>> {
    let path = |text: &str| {
        GuestPath::new(text)
            .map_err(|error| Error::corrupt(format!("{text:?} is no path")).because(error))
    };
    let Some((folder, last)) = pattern.rsplit_once('/').filter(|_| pattern.contains('*')) else {
        return Ok(vec![path(pattern)?]);
    };
    let folder = path(if folder.is_empty() { "/" } else { folder })?;
    let mut names: Vec<Vec<u8>> = guest
        .read_dir(&folder)?
        .unwrap_or_default()
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| matches(last.as_bytes(), name))
        .collect();
    names.sort();
    if names.len() > MAX_FILES {
        return Err(Error::limit(format!(
            "more than 256 files match {pattern:?}"
        )));
    }
    names
        .into_iter()
        .map(|name| {
            folder
                .join(&name)
                .map_err(|error| Error::corrupt("no file name").because(error))
        })
        .collect()
}

/// Whether a name matches a pattern of `*`; a leading dot must stand in the pattern.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    let mut parts = pattern.split(|&byte| byte == b'*');
    let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut rest = rest;
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        if part.is_empty() {
            continue;
        }
        let Some(at) = rest.windows(part.len()).position(|window| window == part) else {
            return false;
        };
        rest = rest
            .get(at.saturating_add(part.len())..)
            .unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(separator: &str) -> SettingProbe {
        SettingProbe {
            paths: vec!["/etc/x".into()],
            section: None,
            key: "Key".into(),
            separator: separator.into(),
            comments: "#;".into(),
            ignore_case: false,
            ends_at: None,
        }
    }

    fn values(probe: &SettingProbe, text: &str) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        let path = GuestPath::new("/etc/x").unwrap();
        probe.scan(&path, text, &mut found).unwrap();
        found.into_iter().map(|one| (one.line, one.value)).collect()
    }

    #[test]
    fn lines_set_keys_with_any_separator() {
        for (separator, text, value) in [
            ("=", "Key = a b ", "a b"),
            ("=", "Key=\"a # b\" # c", "a # b"),
            ("=", "Key='x'", "x"),
            ("=", "Key=a=b", "a=b"),
            ("=", "Key = no # never", "no"),
            ("=", "Key = a#b", "a#b"),
            (" ", "Key\t no", "no"),
            (" ", "  Key no", "no"),
            (" ", "Key", ""),
            (":", "Key: v", "v"),
        ] {
            assert_eq!(
                values(&probe(separator), text),
                [(1, value.to_owned())],
                "{text}"
            );
        }
        for text in [
            "#Key = a",
            "; Key=a",
            "Keys = a",
            "key = a",
            "Key",
            "[s]\nKey = a",
        ] {
            assert!(values(&probe("="), text).is_empty(), "{text}");
        }
    }

    #[test]
    fn sections_and_what_is_not_for_all_are_told_apart() {
        let mut one = probe("=");
        one.section = Some("b".into());
        let text = "Key = 0\n[a]\nKey = 1\n[ b ]\nKey = 2\n[a]\nKey = 3\n[b]\nKey = 4\n";
        assert_eq!(values(&one, text), [(5, "2".into()), (9, "4".into())]);
        let mut sshd = probe(" ");
        sshd.ignore_case = true;
        sshd.ends_at = Some("match".into());
        let text = "KEY no\nMatch User root\n  Key yes\n";
        assert_eq!(values(&sshd, text), [(1, "no".into())]);
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, is) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".a", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*bc", "abcbc", true),
            ("a*b", "a", false),
            ("a", "ab", false),
            ("*", "x", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                is,
                "{pattern} {name}"
            );
        }
    }
}
