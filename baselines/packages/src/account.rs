//! Owners and modes of files, as people write them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A user or group, by name or number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Account {
    /// By number.
    Number(u32),
    /// By its name in the guest.
    Name(String),
}

impl Account {
    /// Whether an id, which the guest gives this name, is it.
    #[must_use]
    pub fn is(&self, id: u32, name: Option<&str>) -> bool {
        match self {
            Self::Number(number) => *number == id,
            Self::Name(wanted) => name == Some(wanted) || (wanted == "root" && id == 0),
        }
    }

    /// The number that a passwd or group database gives it; root is 0 without one.
    #[must_use]
    pub fn number(&self, database: &str) -> Option<u32> {
        let wanted = match self {
            Self::Number(number) => return Some(*number),
            Self::Name(name) => name,
        };
        let found = database.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(wanted)).then(|| fields.nth(1)?.parse().ok())
        });
        found.flatten().or((wanted == "root").then_some(0))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Permission, set-id and sticky bits, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

impl Mode {
    /// The mode of these bits; what is no permission, set-id or sticky bit is left out.
    #[must_use]
    pub fn new(bits: u16) -> Self {
        Self(bits & 0o7777)
    }

    /// Its bits.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 5;
        u16::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| digits && *mode <= 0o7777)
            .map(Self)
            .ok_or_else(|| {
                D::Error::custom(format!("{text:?} is no mode in octal such as \"0640\""))
            })
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_number_that_the_guest_gives_them() {
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:7::/:/bin/false\nbad:x:y:1::/:\n";
        let number = |name: &str| Account::Name(name.to_owned()).number(passwd);
        assert_eq!((number("web"), number("root")), (Some(33), Some(0)));
        assert_eq!((number("none"), number("bad")), (None, None));
        assert_eq!(Account::Name("root".into()).number(""), Some(0));
        assert_eq!(Account::Number(7).number(""), Some(7));
    }
}
