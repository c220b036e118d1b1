//! The Debian security tracker's JSON, and CISA's catalogue, read as streams: one statement in memory at a time.
//!
//! The tracker's is `{source: {CVE: {"releases": {codename: {"status", "fixed_version", "urgency"}}}}}`. A
//! `fixed_version` of `0` says that the release was never concerned; an `open` one has none.

use std::fmt;
use std::io::Read;

use dormouse_block::{Error, Result};
use dormouse_packages::dpkg::{Version, is_package_name};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Advisories, Fix, is_cve};

fn bad(error: serde_json::Error) -> Error {
    if error.is_io() {
        return Error::io("cannot read the feed", std::io::Error::other(error));
    }
    Error::corrupt("the feed does not read").because(error)
}

/// Reads the tracker's statements into `out`; how many there were.
pub(super) fn read(input: &mut impl Read, out: &mut Advisories) -> Result<usize> {
    let before = out.count;
    let mut reader = serde_json::Deserializer::from_reader(input);
    Sources { out }.deserialize(&mut reader).map_err(bad)?;
    reader.end().map_err(bad)?;
    Ok(out.count.saturating_sub(before))
}

struct Sources<'a> {
    out: &'a mut Advisories,
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
    out: &'a mut Advisories,
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
            for (release, said) in statement.releases {
                let Some(version) = said.fixed_version.filter(|version| version != "0") else {
                    continue;
                };
                let fixed = Version::parse(&version).map_err(|error| {
                    A::Error::custom(format!("{} {cve}: {version:?}: {error}", self.source))
                })?;
                let fix = Fix {
                    cve: cve.as_str().into(),
                    release: release.into(),
                    fixed,
                    urgency: said.urgency.map(Into::into),
                    advisory: None,
                };
                self.out
                    .push(self.source, fix)
                    .map_err(|error| A::Error::custom(error.with_causes()))?;
            }
        }
        Ok(())
    }
}

/// Reads CISA's catalogue; how many CVEs there were.
pub(super) fn read_exploited(input: &mut impl Read, mut take: impl FnMut(&str)) -> Result<usize> {
    let mut count = 0_usize;
    let mut each = |cve: &str| {
        count = count.saturating_add(1);
        take(cve);
    };
    let mut reader = serde_json::Deserializer::from_reader(input);
    Catalogue { take: &mut each }
        .deserialize(&mut reader)
        .map_err(bad)?;
    reader.end().map_err(bad)?;
    Ok(count)
}

struct Catalogue<'a> {
    take: &'a mut dyn FnMut(&str),
}

impl<'de> DeserializeSeed<'de> for Catalogue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "cveID")]
    cve: String,
}

impl<'de> Visitor<'de> for Catalogue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a catalogue with vulnerabilities")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "vulnerabilities" {
                map.next_value_seed(Catalogue { take: self.take })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        while let Some(entry) = list.next_element::<Entry>()? {
            if is_cve(&entry.cve) {
                (self.take)(&entry.cve);
            }
        }
        Ok(())
    }
}
