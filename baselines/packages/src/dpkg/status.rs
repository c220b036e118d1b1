//! The three words of a `Status` field: what is wanted, whether an error is noted, how far the package is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// The word that dpkg writes.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word { $($word => Ok(Self::$variant),)* _ => Err(UnknownWord) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A word that dpkg does not write in that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWord;

words! {
    /// What the administrator wants of a package (dpkg(1), "Package selection states").
    Want {
        /// Nothing was ever said.
        Unknown = "unknown",
        /// It is to be installed.
        Install = "install",
        /// It stays at its version.
        Hold = "hold",
        /// Its files are to go, its configuration stays.
        Deinstall = "deinstall",
        /// All of it is to go.
        Purge = "purge",
    }
}

words! {
    /// Whether dpkg noted an error (dpkg(1), "Package flags").
    Flag {
        /// None.
        Ok = "ok",
        /// The package is broken and must be installed anew before it can be removed.
        Reinstreq = "reinstreq",
    }
}

words! {
    /// How far a package is (dpkg(1), "Package states"), in dpkg's own order.
    State {
        /// Nothing of it is there.
        NotInstalled = "not-installed",
        /// Only its configuration files are there.
        ConfigFiles = "config-files",
        /// Unpacking was begun and not finished.
        HalfInstalled = "half-installed",
        /// Its files are there; it is not configured.
        Unpacked = "unpacked",
        /// Configuring was begun and not finished.
        HalfConfigured = "half-configured",
        /// It awaits the trigger processing of another package.
        TriggersAwaited = "triggers-awaited",
        /// It has been triggered and has not processed that.
        TriggersPending = "triggers-pending",
        /// All of it is done.
        Installed = "installed",
    }
}

impl State {
    /// Whether the package's files are those of its version: unpacked or further.
    #[must_use]
    pub fn has_files(self) -> bool {
        self >= Self::Unpacked
    }

    /// Whether files of the package may be on the disk, complete or not.
    #[must_use]
    pub fn may_have_files(self) -> bool {
        self >= Self::HalfInstalled
    }

    /// Whether dpkg has more to do for it: its files are there and its configuration or triggers are outstanding.
    #[must_use]
    pub fn is_outstanding(self) -> bool {
        self.may_have_files() && self != Self::Installed
    }
}

/// A whole `Status` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Status {
    /// What is wanted.
    pub want: Want,
    /// Whether an error is noted.
    pub flag: Flag,
    /// How far it is.
    pub state: State,
}

impl Status {
    /// `install ok installed`: what a record without a `Status` field means in `status.d`.
    pub const INSTALLED: Self = Self {
        want: Want::Install,
        flag: Flag::Ok,
        state: State::Installed,
    };

    /// `install ok unpacked`: what an unpacked upgrade of a wanted package leaves.
    pub const UNPACKED: Self = Self {
        want: Want::Install,
        flag: Flag::Ok,
        state: State::Unpacked,
    };
}

impl FromStr for Status {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_ascii_whitespace();
        let (Some(want), Some(flag), Some(state), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(UnknownWord);
        };
        Ok(Self {
            want: want.parse()?,
            flag: flag.parse()?,
            state: state.parse()?,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.want, self.flag, self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_exactly_three_known_words() {
        let status: Status = "hold ok half-configured".parse().unwrap();
        assert_eq!(status.to_string(), "hold ok half-configured");
        assert!(status.state.is_outstanding() && status.state.has_files());
        for text in [
            "",
            "install ok",
            "install ok installed x",
            "Install ok installed",
            "a b c",
        ] {
            assert_eq!(text.parse::<Status>(), Err(UnknownWord), "{text:?}");
        }
        assert!(!State::ConfigFiles.may_have_files() && !State::HalfInstalled.has_files());
    }
}
