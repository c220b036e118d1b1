//! Trigger interests (deb-triggers(5)): who wants to know of which file and of which explicit trigger.

use std::collections::BTreeMap;

use foldhash::HashMap;

use dormouse_block::{Error, Result};

/// One package's interest in one trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interest {
    /// The package as the files spell it: its name, with the architecture for `Multi-Arch: same`.
    pub(super) package: String,
    /// Whether whoever activates the trigger waits until it is processed.
    pub(super) awaited: bool,
}

/// What a line of a package's `triggers` member asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Directive {
    Interest { trigger: String, awaited: bool },
    Activate { trigger: String, awaited: bool },
}

/// All interests, as `/var/lib/dpkg/triggers` has them.
#[derive(Debug, Clone, Default)]
pub(super) struct Interests {
    /// `File`: path and interest, in the file's order.
    files: Vec<(String, Interest)>,
    /// Places in `files` by path.
    by_path: HashMap<Vec<u8>, Vec<usize>>,
    /// One file for each explicit trigger.
    named: BTreeMap<String, Vec<Interest>>,
    /// Whether `File` is to be written.
    pub(super) files_changed: bool,
    /// Explicit triggers whose files are to be written (or removed, where nobody is interested).
    pub(super) named_changed: std::collections::BTreeSet<String>,
}

/// Reads the `triggers` member of a package.
///
/// # Errors
/// `Corrupt` for directives and names that dpkg refuses.
pub(super) fn directives(bytes: &[u8]) -> Result<Vec<Directive>> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Error::corrupt("a triggers file that is not UTF-8"))?;
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line
            .split_once('#')
            .map_or(line, |(before, _)| before)
            .trim();
        if line.is_empty() {
            continue;
        }
        let bad = || Error::corrupt(format!("a bad line in a triggers file: {line:?}"));
        let (word, trigger) = line.split_once(char::is_whitespace).ok_or_else(bad)?;
        let trigger = trigger.trim().to_owned();
        if !is_trigger_name(&trigger) {
            return Err(bad());
        }
        out.push(match word {
            "interest" | "interest-await" => Directive::Interest {
                trigger,
                awaited: true,
            },
            "interest-noawait" => Directive::Interest {
                trigger,
                awaited: false,
            },
            "activate" | "activate-await" => Directive::Activate {
                trigger,
                awaited: true,
            },
            "activate-noawait" => Directive::Activate {
                trigger,
                awaited: false,
            },
            _ => return Err(bad()),
        });
    }
    Ok(out)
}

/// A path without empty components, or what could be a package's name.
pub(super) fn is_trigger_name(name: &str) -> bool {
    if let Some(path) = name.strip_prefix('/') {
        return path.split('/').all(|part| {
            !part.is_empty()
                && !part
                    .bytes()
                    .any(|byte| byte.is_ascii_control() || byte == b' ')
        });
    }
    name.bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.:".contains(&byte))
        && name != "File"
        && name != "Unincorp"
        && name != "Lock"
}

/// `package` or `package/noawait`.
fn interest(text: &str) -> Option<Interest> {
    let (package, awaited) = match text.strip_suffix("/noawait") {
        Some(package) => (package, false),
        None => (text, true),
    };
    let (name, architecture) = package.split_once(':').unwrap_or((package, "any"));
    (dormouse_packages::dpkg::is_package_name(name)
        && architecture
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
    .then(|| Interest {
        package: package.to_owned(),
        awaited,
    })
}

fn text(interest: &Interest) -> String {
    let options = if interest.awaited { "" } else { "/noawait" };
    format!("{}{options}", interest.package)
}

impl Interests {
    /// Reads `File`.
    ///
    /// # Errors
    /// `Corrupt` for a malformed line.
    pub(super) fn read_files(&mut self, bytes: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::corrupt("the list of file triggers is not UTF-8"))?;
        for line in text.lines() {
            let parsed = line
                .split_once(' ')
                .filter(|(path, _)| path.starts_with('/'))
                .and_then(|(path, rest)| Some((path, interest(rest)?)));
            let Some((path, interest)) = parsed else {
                return Err(Error::corrupt(format!(
                    "a bad line in the list of file triggers: {line:?}"
                )));
            };
            self.files.push((path.to_owned(), interest));
        }
        self.index();
        Ok(())
    }

    /// Reads the file of an explicit trigger.
    ///
    /// # Errors
    /// `Corrupt` for a malformed line.
    pub(super) fn read_named(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::corrupt("a list of trigger interests is not UTF-8"))?;
        let interests = text
            .lines()
            .map(|line| {
                interest(line).ok_or_else(|| {
                    Error::corrupt(format!(
                        "a bad line in the interests of trigger {name}: {line:?}"
                    ))
                })
            })
            .collect::<Result<Vec<_>>>()?;
        self.named.insert(name.to_owned(), interests);
        Ok(())
    }

    fn index(&mut self) {
        self.by_path.clear();
        for (at, (path, _)) in self.files.iter().enumerate() {
            self.by_path
                .entry(path.as_bytes().to_vec())
                .or_default()
                .push(at);
        }
    }

    /// Whether any path is watched.
    pub(super) fn watches_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Those interested in the very path `path`, the one that came last first, as dpkg asks them.
    pub(super) fn in_path(&self, path: &[u8]) -> Vec<Interest> {
        let places = self.by_path.get(path).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .rev()
            .filter_map(|at| self.files.get(*at))
            .map(|(_, interest)| interest.clone())
            .collect()
    }

    /// Those interested in a trigger by its name.
    pub(super) fn in_trigger(&self, name: &str) -> Vec<Interest> {
        if name.starts_with('/') {
            return self.in_path(name.as_bytes());
        }
        self.named.get(name).cloned().unwrap_or_default()
    }

    /// Takes back `package`'s interest.
    pub(super) fn remove(&mut self, trigger: &str, package: &str) {
        if trigger.starts_with('/') {
            let before = self.files.len();
            self.files
                .retain(|(path, interest)| path != trigger || interest.package != package);
            if self.files.len() != before {
                self.files_changed = true;
                self.index();
            }
            return;
        }
        if let Some(interests) = self.named.get_mut(trigger) {
            interests.retain(|interest| interest.package != package);
        }
        self.named_changed.insert(trigger.to_owned());
    }

    /// Notes `package`'s interest, as the last one.
    pub(super) fn add(&mut self, trigger: &str, package: &str, awaited: bool) {
        let interest = Interest {
            package: package.to_owned(),
            awaited,
        };
        if trigger.starts_with('/') {
            let known = self
                .files
                .iter_mut()
                .find(|(path, known)| path == trigger && known.package == package);
            match known {
                Some((_, known)) => known.awaited = awaited,
                None => {
                    self.files.push((trigger.to_owned(), interest));
                    self.index();
                }
            }
            self.files_changed = true;
            return;
        }
        let interests = self.named.entry(trigger.to_owned()).or_default();
        interests.retain(|known| known.package != package);
        interests.push(interest);
        self.named_changed.insert(trigger.to_owned());
    }

    /// The text of `File`.
    pub(super) fn files_text(&self) -> Vec<u8> {
        let mut out = String::new();
        for (path, interest) in &self.files {
            out.push_str(path);
            out.push(' ');
            out.push_str(&text(interest));
            out.push('\n');
        }
        out.into_bytes()
    }

    /// The text of an explicit trigger's file; none where nobody is interested and the file goes.
    pub(super) fn named_text(&self, name: &str) -> Option<Vec<u8>> {
        let interests = self.named.get(name).filter(|list| !list.is_empty())?;
        let mut out = String::new();
        for interest in interests {
            out.push_str(&text(interest));
            out.push('\n');
        }
        Some(out.into_bytes())
    }
}

/// A line of `Unincorp`: a trigger and the packages that activated it, `-` for none that waits.
///
/// # Errors
/// `Corrupt` for what dpkg does not read.
pub(super) fn unincorporated(bytes: &[u8]) -> Result<Vec<(String, Vec<Option<String>>)>> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Error::corrupt("the list of activated triggers is not UTF-8"))?;
    let mut out = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(trigger) = words.next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        if !is_trigger_name(trigger) {
            return Err(Error::corrupt(format!(
                "a bad line in the list of activated triggers: {line:?}"
            )));
        }
        let by = words
            .map(|word| (word != "-").then(|| word.to_owned()))
            .collect();
        out.push((trigger.to_owned(), by));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interests_move_to_the_end_when_they_are_renewed() {
        let mut interests = Interests::default();
        interests
            .read_files(b"/usr/share/man man-db/noawait\n/etc/a one\n/etc/a two:amd64\n")
            .unwrap();
        interests
            .read_named("ldconfig", b"libc-bin/noawait\nother\n")
            .unwrap();
        let names: Vec<_> = interests
            .in_path(b"/etc/a")
            .into_iter()
            .map(|i| i.package)
            .collect();
        assert_eq!(names, ["two:amd64", "one"]);
        interests.remove("/etc/a", "one");
        interests.add("/etc/a", "one", true);
        assert_eq!(
            interests.files_text(),
            b"/usr/share/man man-db/noawait\n/etc/a two:amd64\n/etc/a one\n"
        );
        interests.remove("ldconfig", "libc-bin");
        interests.add("ldconfig", "libc-bin", false);
        assert_eq!(
            interests.named_text("ldconfig").unwrap(),
            b"other\nlibc-bin/noawait\n"
        );
        interests.remove("ldconfig", "libc-bin");
        interests.remove("ldconfig", "other");
        assert_eq!(interests.named_text("ldconfig"), None);
        assert!(interests.read_files(b"nonsense\n").is_err());
    }

    #[test]
    fn directives_are_those_of_the_manual() {
        let all = directives(b"# c\ninterest-noawait /a/b\nactivate ldconfig # x\n\n").unwrap();
        assert_eq!(
            all,
            [
                Directive::Interest {
                    trigger: "/a/b".into(),
                    awaited: false
                },
                Directive::Activate {
                    trigger: "ldconfig".into(),
                    awaited: true
                },
            ]
        );
        for bad in [
            &b"interest\n"[..],
            b"interest //a\n",
            b"interest a/../b\n",
            b"wish x\n",
            b"activate File\n",
        ] {
            assert!(
                directives(bad).is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[test]
    fn activations_that_wait_to_be_noted_are_read() {
        let all = unincorporated(b"ldconfig - libc6\n").unwrap();
        assert_eq!(
            all,
            [("ldconfig".to_owned(), vec![None, Some("libc6".to_owned())])]
        );
    }
}
