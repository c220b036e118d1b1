//! Owners by name, and the administrator's own modes (dpkg-statoverride(1)).

use foldhash::{HashMap, HashMapExt as _};

use dormouse_block::{Error, Result};

/// Numbers of names in `/etc/passwd` or `/etc/group`; the first line of a name counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Accounts(HashMap<String, u32>);

impl Accounts {
    /// Reads either file; lines that are none are passed over, as the C library does.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut names = HashMap::new();
        for line in bytes.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let number = std::str::from_utf8(number)
                .ok()
                .and_then(|text| text.parse().ok());
            if let (Ok(name), Some(number)) = (std::str::from_utf8(name), number)
                && !name.is_empty()
            {
                names.entry(name.to_owned()).or_insert(number);
            }
        }
        Self(names)
    }

    /// The number of a name.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }
}

/// What the administrator wants a path's owner and mode to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatOverride {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u16,
}

/// `/var/lib/dpkg/statoverride`.
#[derive(Debug, Clone, Default)]
pub(super) struct StatOverrides(HashMap<Vec<u8>, StatOverride>);

impl StatOverrides {
    /// Reads the file: `user group mode path` on each line; `#` before a number in the place of a name.
    ///
    /// # Errors
    /// `Corrupt` for a malformed line and for a name that the guest does not know, on which dpkg itself stops.
    pub(super) fn parse(bytes: &[u8], users: &Accounts, groups: &Accounts) -> Result<Self> {
        let mut out = HashMap::new();
        for line in bytes.split(|&byte| byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            let bad = || {
                Error::corrupt(format!(
                    "a bad line in statoverride: {:?}",
                    String::from_utf8_lossy(line.get(..line.len().min(200)).unwrap_or_default())
                ))
            };
            let mut parts = line.splitn(4, |&byte| byte == b' ');
            let mut next = || parts.next().ok_or_else(bad);
            let (user, group, mode, path) = (next()?, next()?, next()?, next()?);
            let number = |name: &[u8], accounts: &Accounts| {
                let name = std::str::from_utf8(name).map_err(|_| bad())?;
                match name.strip_prefix('#') {
                    Some(digits) => digits.parse().map_err(|_| bad()),
                    None => accounts.number(name).ok_or_else(bad),
                }
            };
            let mode = std::str::from_utf8(mode)
                .ok()
                .and_then(|text| u16::from_str_radix(text, 8).ok())
                .filter(|mode| *mode <= 0o7777)
                .ok_or_else(bad)?;
            out.insert(
                path.to_vec(),
                StatOverride {
                    uid: number(user, users)?,
                    gid: number(group, groups)?,
                    mode,
                },
            );
        }
        Ok(Self(out))
    }

    /// What is wanted of the path that list files call `name`.
    pub(super) fn get(&self, name: &[u8]) -> Option<StatOverride> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_and_unknown_names_stop() {
        let users = Accounts::parse(b"root:x:0:0::/:\nbad\nmail:x:8:8::/:\nmail:x:9:9::/:\n");
        let groups = Accounts::parse(b"root:x:0:\nmail:x:8:\n");
        let overrides =
            StatOverrides::parse(b"mail #12 2755 /usr/bin/a b\n", &users, &groups).unwrap();
        assert_eq!(
            overrides.get(b"/usr/bin/a b"),
            Some(StatOverride {
                uid: 8,
                gid: 12,
                mode: 0o2755
            })
        );
        for bad in [
            &b"nobody root 755 /a\n"[..],
            b"root root 9 /a\n",
            b"root root 755\n",
        ] {
            assert!(StatOverrides::parse(bad, &users, &groups).is_err());
        }
    }
}
