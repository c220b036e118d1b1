//! `/etc/pacman.conf`: where the database is, what is held, which repositories are asked.

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::Guest;

/// Where it is.
pub(crate) const PATH: &str = "/etc/pacman.conf";
/// Largest file read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Where the database is unless the file says otherwise.
const DATABASE: &str = "/var/lib/pacman";

/// What is of use here of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// `DBPath`
    pub(crate) database: String,
    /// `IgnorePkg`: patterns of names that are not upgraded.
    pub(crate) ignored: Vec<String>,
    /// `IgnoreGroup`: groups whose packages are not.
    pub(crate) ignored_groups: Vec<String>,
    /// Repositories, by the file's order: name, servers, files included for more of them.
    pub(crate) repositories: Vec<Section>,
}

/// One repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) servers: Vec<String>,
    pub(crate) included: Vec<String>,
}

impl Config {
    /// Reads the guest's file; what pacman does without one where it has none.
    ///
    /// # Errors
    /// As reading a file of the guest.
    pub(crate) fn read(guest: &Guest) -> Result<Self> {
        let path =
            GuestPath::new(PATH).map_err(|error| Error::corrupt("bad path").because(error))?;
        let text = guest.read(&path, MAX_CONFIG)?.unwrap_or_default();
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut config = Self {
            database: DATABASE.into(),
            ignored: Vec::new(),
            ignored_groups: Vec::new(),
            repositories: Vec::new(),
        };
        let mut options = true;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                options = name == "options";
                if !options {
                    config.repositories.push(Section {
                        name: name.to_owned(),
                        ..Section::default()
                    });
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim();
            let words = || value.split_ascii_whitespace().map(str::to_owned);
            match (key.trim(), config.repositories.last_mut()) {
                ("DBPath", _) if options => value.clone_into(&mut config.database),
                ("IgnorePkg", _) if options => config.ignored.extend(words()),
                ("IgnoreGroup", _) if options => config.ignored_groups.extend(words()),
                ("Server", Some(section)) if !options => section.servers.push(value.to_owned()),
                ("Include", Some(section)) if !options => section.included.push(value.to_owned()),
                _ => {}
            }
        }
        config
    }

    /// Whether a package is not upgraded.
    pub(crate) fn holds(&self, name: &str, groups: &[String]) -> bool {
        let is = |patterns: &[String], name: &str| {
            patterns
                .iter()
                .any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
        };
        is(&self.ignored, name) || groups.iter().any(|group| is(&self.ignored_groups, group))
    }
}

/// A pattern of `*` and `?`, without backtracking over more than the last star.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0_usize, 0_usize);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at = at.saturating_add(1);
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at = at.saturating_add(1);
                from = from.saturating_add(1);
            }
            _ => match &mut star {
                Some((begin, taken)) => {
                    *taken = taken.saturating_add(1);
                    at = begin.saturating_add(1);
                    from = *taken;
                }
                None => return false,
            },
        }
    }
    let rest = pattern.get(at..).unwrap_or_default();
    rest.iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_repositories_are_told_apart() {
        let config = Config::parse(
            "[options]\nIgnorePkg = linux linux-*\nIgnorePkg=x?z\n#DBPath = /a\nIgnoreGroup = gnome\nServer = no\n\
            [core]\nInclude = /etc/pacman.d/mirrorlist\n[own]\nSigLevel = Never\nServer = file:///srv/$repo\n",
        );
        assert_eq!(config.database, "/var/lib/pacman");
        for (name, held) in [
            ("linux", true),
            ("linux-lts", true),
            ("xyz", true),
            ("xz", false),
            ("linu", false),
        ] {
            assert_eq!(config.holds(name, &[]), held, "{name}");
        }
        assert!(config.holds("gedit", &["gnome".into()]));
        let names: Vec<_> = config
            .repositories
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(names, ["core", "own"]);
        assert_eq!(config.repositories[1].servers, ["file:///srv/$repo"]);
        assert_eq!(
            config.repositories[0].included,
            ["/etc/pacman.d/mirrorlist"]
        );
    }
}
