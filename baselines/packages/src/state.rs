//! How far an installed package is, in words for every family.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dpkg;

/// How far a package is, from its traces to all of it. Most are dpkg's words (dpkg(1), "Package states"), for it tells
/// the most states apart; what other families know of theirs is said in the word that means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing of it is there.
    NotInstalled,
    /// Only its configuration files are there.
    ConfigFiles,
    /// Another version has taken its place, and it is kept to go back to, as Windows' component packages are.
    Superseded,
    /// Unpacking was begun and not finished; some of its files may be another version's.
    HalfInstalled,
    /// Its files are there; it is not configured.
    Unpacked,
    /// Configuring was begun and not finished, or a script of it failed.
    HalfConfigured,
    /// It awaits the trigger processing of another package.
    TriggersAwaited,
    /// It has been triggered and has not processed that.
    TriggersPending,
    /// Its files are there and it is switched off, as a disabled snap is.
    Disabled,
    /// All of it is done.
    Installed,
}

impl State {
    /// Every state, in order.
    pub const ALL: [Self; 10] = [
        Self::NotInstalled,
        Self::ConfigFiles,
        Self::Superseded,
        Self::HalfInstalled,
        Self::Unpacked,
        Self::HalfConfigured,
        Self::TriggersAwaited,
        Self::TriggersPending,
        Self::Disabled,
        Self::Installed,
    ];

    /// The word that facts say.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotInstalled => "not-installed",
            Self::ConfigFiles => "config-files",
            Self::Superseded => "superseded",
            Self::HalfInstalled => "half-installed",
            Self::Unpacked => "unpacked",
            Self::HalfConfigured => "half-configured",
            Self::TriggersAwaited => "triggers-awaited",
            Self::TriggersPending => "triggers-pending",
            Self::Disabled => "disabled",
            Self::Installed => "installed",
        }
    }

    /// Whether the package's files are those of its version: unpacked or further.
    #[must_use]
    pub fn has_files(self) -> bool {
        self >= Self::Unpacked
    }

    /// Whether there is more to do for it: some of its files are there, and unpacking, configuration or triggers are
    /// outstanding.
    #[must_use]
    pub fn is_outstanding(self) -> bool {
        self >= Self::HalfInstalled && self < Self::Disabled
    }
}

impl From<dpkg::State> for State {
    fn from(state: dpkg::State) -> Self {
        match state {
            dpkg::State::NotInstalled => Self::NotInstalled,
            dpkg::State::ConfigFiles => Self::ConfigFiles,
            dpkg::State::HalfInstalled => Self::HalfInstalled,
            dpkg::State::Unpacked => Self::Unpacked,
            dpkg::State::HalfConfigured => Self::HalfConfigured,
            dpkg::State::TriggersAwaited => Self::TriggersAwaited,
            dpkg::State::TriggersPending => Self::TriggersPending,
            dpkg::State::Installed => Self::Installed,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_s_words_and_meanings_are_kept() {
        for word in [
            "not-installed",
            "config-files",
            "half-installed",
            "unpacked",
            "half-configured",
            "triggers-awaited",
            "triggers-pending",
            "installed",
        ] {
            let theirs: dpkg::State = word.parse().unwrap();
            let ours = State::from(theirs);
            assert_eq!(ours.as_str(), word);
            assert_eq!(ours.has_files(), theirs.has_files(), "{word}");
            assert_eq!(ours.is_outstanding(), theirs.is_outstanding(), "{word}");
            assert_eq!(serde_json::to_string(&ours).unwrap(), format!("{word:?}"));
        }
        assert!(State::Disabled.has_files() && !State::Disabled.is_outstanding());
    }

    #[test]
    fn all_are_named_in_order() {
        assert!(State::ALL.is_sorted());
        assert!(State::ALL.iter().all(|state| !state.as_str().is_empty()));
    }
}
