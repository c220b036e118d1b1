//! Time zones: those bundled with this version, and what a machine says of its own.

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// The zones that count, whatever the host has installed.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Whose local time something is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Zone {
    /// The machine's own: each opens when its own clock says so.
    #[default]
    Local,
    /// This one: all open at one instant.
    Named(TimeZone),
}

impl Zone {
    /// The zone for a machine with this one.
    #[must_use]
    pub fn of(&self, machine: &TimeZone) -> TimeZone {
        match self {
            Self::Local => machine.clone(),
            Self::Named(zone) => zone.clone(),
        }
    }
}

/// The IANA zone of this name.
pub(crate) fn named(name: &str) -> Result<TimeZone, String> {
    ZONES
        .get(name)
        .map_err(|_| format!("{name:?} is no IANA time zone such as Europe/Berlin"))
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == "local" {
            return Ok(Self::Local);
        }
        named(&name).map(Self::Named).map_err(D::Error::custom)
    }
}

/// How a machine's zone came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneSource {
    /// The estate says it.
    Estate,
    /// The guest's own files say it.
    Guest,
    /// Nobody says it: the estate's default.
    Default,
}

/// A machine's zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineZone {
    /// The zone.
    pub zone: TimeZone,
    /// How it came to be known.
    pub source: ZoneSource,
}

impl MachineZone {
    /// The zone by its label, else by what the guest says, else the default. A name that is none of a zone does not count
    /// where the guest gave it, since guests may say anything.
    #[must_use]
    pub fn of(label: Option<&str>, guest: Option<&str>, default: &TimeZone) -> Self {
        if let Some(zone) = label.and_then(|name| named(name).ok()) {
            return Self {
                zone,
                source: ZoneSource::Estate,
            };
        }
        match guest.and_then(|name| named(name.trim()).ok()) {
            Some(zone) => Self {
                zone,
                source: ZoneSource::Guest,
            },
            None => Self {
                zone: default.clone(),
                source: ZoneSource::Default,
            },
        }
    }
}
