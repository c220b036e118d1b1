//! What a guest says it is: os-release(5).

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::Guest;
use serde::{Deserialize, Serialize};

/// Largest os-release file read, in bytes. Real ones have under 1 KiB.
const MAX_OS_RELEASE: u64 = 64 << 10;
/// Where it is, the administrator's first (os-release(5)).
const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The identity of an operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OsRelease {
    /// `ID`, such as `debian`; `linux` where none is given.
    pub id: String,
    /// `ID_LIKE`: the systems that it is like, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub id_like: Vec<String>,
    /// `VERSION_ID`, such as `12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// `VERSION_CODENAME`, such as `bookworm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_codename: Option<String>,
    /// `VARIANT_ID`, such as `server`; the edition of a Windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
    /// `PRETTY_NAME`, such as `Debian GNU/Linux 12 (bookworm)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretty_name: Option<String>,
}

impl OsRelease {
    /// Reads the guest's file; `None` when it has none.
    ///
    /// # Errors
    /// As reading a file of the guest; `Corrupt` for a file that is no os-release.
    pub fn read(guest: &Guest) -> Result<Option<Self>> {
        for path in PATHS {
            let path =
                GuestPath::new(path).map_err(|error| Error::corrupt("bad path").because(error))?;
            if let Some(bytes) = guest.read(&path, MAX_OS_RELEASE)? {
                return Self::parse(&bytes).map(Some).map_err(|error| {
                    error.located(&dormouse_block::Locator::default().path(path))
                });
            }
        }
        Ok(None)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// `Corrupt` for a line that is no assignment, or a value whose quotes do not close.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Error::corrupt("os-release is not UTF-8").because(error))?;
        let mut os = Self {
            id: "linux".into(),
            ..Self::default()
        };
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| Error::corrupt("a line of os-release is no assignment"))?;
            let value = unquote(value)
                .ok_or_else(|| Error::corrupt(format!("bad quotes in the value of {name}")))?;
            // An empty value is as good as none (os-release(5)).
            if value.is_empty() {
                continue;
            }
            match name {
                "ID" => os.id = value,
                "ID_LIKE" => os.id_like = value.split_whitespace().map(str::to_owned).collect(),
                "VERSION_ID" => os.version_id = Some(value),
                "VERSION_CODENAME" => os.version_codename = Some(value),
                "VARIANT_ID" => os.variant_id = Some(value),
                "PRETTY_NAME" => os.pretty_name = Some(value),
                _ => {}
            }
        }
        Ok(os)
    }

    /// `debian-12`, as package URLs name a distribution.
    #[must_use]
    pub fn distro(&self) -> String {
        match self.version_id.as_ref().or(self.version_codename.as_ref()) {
            Some(version) => format!("{}-{version}", self.id),
            None => self.id.clone(),
        }
    }
}

/// A shell word of one piece: bare, or in single or double quotes, with backslashes as the shell takes them.
fn unquote(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => out.push(chars.next()?),
            (Some('"'), '\\') => {
                let next = chars.next()?;
                if !matches!(next, '"' | '\\' | '$' | '`') {
                    out.push('\\');
                }
                out.push(next);
            }
            (None, c) if c.is_whitespace() => return None,
            (_, c) => out.push(c),
        }
    }
    quote.is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_filesystem::MemoryTree;

    const DEBIAN: &[u8] = b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n\
        # a comment\n\nVERSION_CODENAME=bookworm\nID=debian\n";

    #[test]
    fn the_link_that_debian_ships_is_followed() {
        let mut tree = MemoryTree::new();
        tree.file("/usr/lib/os-release", DEBIAN)
            .symlink("/etc/os-release", "../usr/lib/os-release");
        let os = OsRelease::read(&Guest::of(tree)).unwrap().unwrap();
        assert_eq!(os.id, "debian");
        assert_eq!(os.distro(), "debian-12");
        assert_eq!(os.version_codename.as_deref(), Some("bookworm"));
        assert_eq!(
            os.pretty_name.as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
    }

    #[test]
    fn quotes_are_the_shell_s() {
        let os = OsRelease::parse(
            b"ID='a b'\nPRETTY_NAME=\"x\\\"y\\z\"\nID_LIKE=\"one two\"\nVERSION_ID=",
        )
        .unwrap();
        assert_eq!(os.id, "a b");
        assert_eq!(os.pretty_name.as_deref(), Some("x\"y\\z"));
        assert_eq!(os.id_like, ["one", "two"]);
        assert_eq!(os.version_id, None);
        for bad in [
            &b"ID=\"a"[..],
            b"ID='a",
            b"nonsense",
            b"ID=a b",
            b"ID=a\\",
            b"ID=\xff",
        ] {
            assert!(OsRelease::parse(bad).is_err(), "{bad:?}");
        }
    }
}
