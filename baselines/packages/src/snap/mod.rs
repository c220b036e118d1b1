//! Snaps: `/var/lib/snapd/state.json`.
//!
//! snapd keeps what it has installed there, by name: the revisions on the disk in the order in which they came, and which of
//! them is in use. What a snap holds, and the version that its maker gives it, is in its own filesystem image (`snaps/*.snap`) and is not read:
//! the version here is the revision, which is what snapd itself compares.

use std::collections::BTreeMap;

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::Guest;
use serde::Deserialize;

use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl, State};

/// Where it is.
const STATE: &str = "/var/lib/snapd/state.json";
/// Largest state read, in bytes; it holds the history of changes too.
const MAX_STATE: u64 = 64 << 20;

/// What is wanted of the state.
#[derive(Deserialize)]
struct Document {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    snaps: BTreeMap<String, Snap>,
}

#[derive(Deserialize)]
struct Snap {
    #[serde(default)]
    active: bool,
    #[serde(default)]
    current: Option<Revision>,
    #[serde(default)]
    sequence: Vec<Side>,
    #[serde(default)]
    channel: String,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Side {
    #[serde(default)]
    revision: Option<Revision>,
    #[serde(default, rename = "snap-id")]
    id: String,
    /// Since snapd 2.61 the above stands in here.
    #[serde(default)]
    snap: Option<Box<Self>>,
}

/// A revision: a number, or `x` and a number for one that did not come from the store.
#[derive(Deserialize, PartialEq, Clone)]
#[serde(untagged)]
enum Revision {
    Number(i64),
    Text(String),
}

impl Revision {
    fn text(&self) -> String {
        match self {
            Self::Number(number) if *number < 0 => format!("x{}", number.unsigned_abs()),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

fn packages(bytes: &[u8]) -> Result<Vec<Package>> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| Error::corrupt("snapd's state is broken").because(error))?;
    let mut packages = Vec::new();
    for (name, snap) in document.data.snaps {
        for side in snap.sequence {
            let side = match side.snap {
                Some(inner) => *inner,
                None => side,
            };
            let Some(revision) = side.revision else {
                return Err(Error::corrupt(format!(
                    "snap {name} has a revision without a number"
                )));
            };
            let text = revision.text();
            let purl = Purl {
                family: Family::Snap,
                namespace: "snap",
                name: &name,
                version: &text,
                qualifiers: &[("channel", &snap.channel), ("snap_id", &side.id)],
            };
            let mut package = Package::new(Family::Snap, &name, &text, "", &purl);
            if !(snap.active && snap.current.as_ref() == Some(&revision)) {
                package.state = State::Disabled;
            }
            if !snap.kind.is_empty() && snap.kind != "app" {
                package.module = Some(snap.kind.clone());
            }
            packages.push(package);
        }
    }
    Ok(packages)
}

/// The cataloger of snaps.
pub(crate) struct Snaps;

impl Cataloger for Snaps {
    fn family(&self) -> Family {
        Family::Snap
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let path =
            GuestPath::new(STATE).map_err(|error| Error::corrupt("bad path").because(error))?;
        let Some(bytes) = guest.read(&path, MAX_STATE)? else {
            return Ok(None);
        };
        let packages = packages(&bytes)
            .map_err(|error| error.located(&Locator::default().path(path.clone())))?;
        Ok(Some(Catalogue {
            files: vec![(path, packages.len())],
            packages: packages.into_iter().collect(),
            ..Catalogue::default()
        }))
    }
}

/// Revisions by value; those that did not come from the store after those that did, since they came later.
#[must_use]
pub(crate) fn compare(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |text: &str| {
        let local = text.starts_with('x');
        let digits = text
            .trim_start_matches('x')
            .trim_start_matches('0')
            .to_owned();
        (local, digits.len(), digits)
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &[u8] = br#"{"data":{"auth":{},"snaps":{
        "core22":{"type":"base","sequence":[{"name":"core22","snap-id":"amcU","revision":"1122"},{"name":"core22","snap-id":"amcU","revision":"1380"}],
            "active":true,"current":"1380","channel":"latest/stable"},
        "hello":{"sequence":[{"snap":{"name":"hello","snap-id":"","revision":"x1"},"channel":"edge"}],"active":false,"current":"x1"},
        "old":{"type":"app","sequence":[{"revision":7}],"active":true,"current":7}}},"changes":{},"tasks":{}}"#;

    #[test]
    fn each_revision_on_the_disk_is_told_and_which_is_in_use() {
        let all: Vec<_> = packages(STATE)
            .unwrap()
            .into_iter()
            .map(|package| (package.name, package.version, package.state))
            .collect();
        let of = |name: &str, version: &str, state| (name.to_owned(), version.to_owned(), state);
        assert_eq!(
            all,
            [
                of("core22", "1122", State::Disabled),
                of("core22", "1380", State::Installed),
                of("hello", "x1", State::Disabled),
                of("old", "7", State::Installed),
            ]
        );
        assert_eq!(
            packages(STATE).unwrap()[1].purl,
            "pkg:generic/snap/core22@1380?channel=latest%2Fstable&snap_id=amcU"
        );
    }

    #[test]
    fn a_broken_state_is_an_error() {
        for bad in [
            &b""[..],
            b"{}",
            b"{\"data\":{\"snaps\":{\"a\":{\"sequence\":[{}]}}}}",
        ] {
            assert_eq!(
                packages(bad).unwrap_err().kind(),
                dormouse_block::ErrorKind::Corrupt
            );
        }
    }

    #[test]
    fn revisions_are_numbers() {
        assert!(["9", "10", "x2", "x11"].is_sorted_by(|a, b| compare(a, b).is_lt()));
    }
}
