//! The Debian security tracker's JSON, read as a stream: one statement in memory at a time.
//!
//! It is `{source: {CVE: {"releases": {codename: {"status", "fixed_version", "urgency"}}}}}`. A `fixed_version` of `0` says that the
//! release was never concerned; an `open` one has none. It says no date.

use std::fmt;

use dormouse_block::Result;
use dormouse_packages::Family;
use dormouse_packages::dpkg::is_package_name;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::json::bad;
use super::{Beginning, Document, is_cve};
use crate::catalogue::Builder;
use crate::severity::Severity;
use crate::statement::{AdvisoryDraft, Claim, Names, Status};

/// Any object that is nothing else: its keys are names of packages.
pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    match &beginning.json {
        Some(head) => !head.is_array,
        None => beginning.text.trim_start().starts_with('{'),
    }
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let mut reader = serde_json::Deserializer::from_reader(&mut *document.input);
    Sources { out }.deserialize(&mut reader).map_err(bad)?;
    reader.end().map_err(bad)
}

struct Sources<'a> {
    out: &'a mut Builder,
}

impl<'de> DeserializeSeed<'de> for Sources<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sources<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of source packages")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(source) = map.next_key::<String>()? {
            if !is_package_name(&source) {
                return Err(serde::de::Error::custom(format!(
                    "{source:?} is no source package"
                )));
            }
            map.next_value_seed(Cves {
                source: &source,
                out: &mut *self.out,
            })?;
        }
        Ok(())
    }
}

struct Cves<'a> {
    source: &'a str,
    out: &'a mut Builder,
}

impl<'de> DeserializeSeed<'de> for Cves<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

#[derive(Deserialize)]
struct Statement {
    #[serde(default)]
    releases: std::collections::BTreeMap<String, Release>,
}

#[derive(Deserialize)]
struct Release {
    #[serde(default)]
    fixed_version: Option<String>,
    #[serde(default)]
    urgency: Option<String>,
    #[serde(default)]
    status: Option<String>,
    /// Why no advisory will be issued: `no-dsa`, `ignored`, `postponed`.
    #[serde(default)]
    nodsa: Option<String>,
}

impl<'de> Visitor<'de> for Cves<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of CVEs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        use serde::de::Error as _;
        while let Some(cve) = map.next_key::<String>()? {
            if !is_cve(&cve) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let statement: Statement = map.next_value()?;
            self.out.entry();
            for (release, said) in statement.releases {
                let package = self.source;
                let custom = |error: dormouse_block::Error| {
                    A::Error::custom(format!(
                        "{package} {cve} {release}: {}",
                        error.with_causes()
                    ))
                };
                let Some(claim) = claim(package, &release, &said) else {
                    continue;
                };
                let advisory = AdvisoryDraft {
                    id: cve.clone(),
                    cves: vec![cve.clone()],
                    severity: said.urgency.as_deref().and_then(Severity::of_word),
                    word: said.urgency,
                    ..AdvisoryDraft::default()
                };
                let number = self.out.advisory(&advisory).map_err(custom)?;
                self.out.state(&claim, &[number]).map_err(custom)?;
            }
        }
        Ok(())
    }
}

/// What is said of one release; nothing of one that has the package and no version of it was looked at.
fn claim(source: &str, release: &str, said: &Release) -> Option<Claim> {
    let mut claim = Claim::new(
        Family::Dpkg,
        source,
        Names::Source,
        &format!("debian:{release}"),
    );
    if let Some(fixed) = &said.fixed_version {
        return Some(claim.fixed_in(fixed));
    }
    match said.status.as_deref() {
        Some("undetermined") => claim.status = Status::UnderInvestigation,
        Some("open") => said
            .nodsa
            .as_deref()
            .unwrap_or_default()
            .clone_into(&mut claim.note),
        // An older form of the feed has neither status nor version: it says nothing.
        _ => return None,
    }
    Some(claim)
}
