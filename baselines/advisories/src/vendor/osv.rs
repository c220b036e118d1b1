//! Open Source Vulnerability documents, of every ecosystem whose packages an inventory here has.
//!
//! Source: the OSV schema 1.7. Ecosystems of systems speak of source packages (Debian, Ubuntu, Alpine, openEuler) or of installed ones
//! (AlmaLinux, Red Hat); ranges of commits are none of an inventory's.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};
use dormouse_packages::Family;
use jiff::Timestamp;
use serde::Deserialize;

use super::purl::PackageUrl;
use super::{Beginning, Document, is_cve, json};
use crate::catalogue::Builder;
use crate::judgement::{canonical_name, is_modular};
use crate::severity::score_of;
use crate::statement::{AdvisoryDraft, Claim, Names, SOME_MODULE, is_zero};
use crate::target::release_of;

#[derive(Deserialize)]
struct Osv {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    upstream: Vec<String>,
    #[serde(default)]
    related: Vec<String>,
    #[serde(default)]
    published: Option<Timestamp>,
    modified: Timestamp,
    #[serde(default)]
    withdrawn: Option<Timestamp>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    severity: Option<Vec<Score>>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    #[serde(default)]
    affected: Option<Vec<Affected>>,
    #[serde(default)]
    database_specific: Option<Specific>,
}

#[derive(Clone, Deserialize)]
struct Score {
    #[serde(rename = "type")]
    kind: String,
    score: String,
}

#[derive(Deserialize)]
struct Reference {
    url: String,
}

#[derive(Deserialize)]
struct Affected {
    #[serde(default)]
    package: Option<Package>,
    #[serde(default)]
    ranges: Option<Vec<Range>>,
    #[serde(default)]
    versions: Option<Vec<String>>,
    #[serde(default)]
    ecosystem_specific: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Package {
    ecosystem: String,
    name: String,
    #[serde(default)]
    purl: Option<String>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<BTreeMap<String, String>>,
}

/// The words of those databases that have any.
#[derive(Default, Deserialize)]
struct Specific {
    #[serde(default)]
    severity: Option<serde_json::Value>,
}

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    const KEYS: [&str; 17] = [
        "schema_version",
        "id",
        "modified",
        "published",
        "withdrawn",
        "aliases",
        "upstream",
        "related",
        "summary",
        "details",
        "severity",
        "affected",
        "references",
        "credits",
        "database_specific",
        "$schema",
        "ecosystem_specific",
    ];
    beginning.json.as_ref().is_some_and(|head| {
        !head.is_array
            && !head.keys.is_empty()
            && head
                .keys
                .iter()
                .all(|(key, _)| KEYS.contains(&key.as_str()))
    })
}

/// Ecosystems of languages.
const LANGUAGES: [(&str, Family); 5] = [
    ("PyPI", Family::Python),
    ("npm", Family::Npm),
    ("RubyGems", Family::Gem),
    ("Go", Family::Go),
    ("crates.io", Family::Cargo),
];

/// Whose packages an ecosystem has, which of their names it says, and the release; `None` for one of which no inventory here has any.
fn place(ecosystem: &str) -> Option<(Family, Names, String)> {
    if let Some((_, family)) = LANGUAGES.iter().find(|(name, _)| *name == ecosystem) {
        return Some((*family, Names::Binary, String::new()));
    }
    let (name, rest) = ecosystem.split_once(':').unwrap_or((ecosystem, ""));
    let of = |family, names, id: &str| Some((family, names, format!("{id}:{rest}")));
    match name {
        "Debian" => of(Family::Dpkg, Names::Source, "debian"),
        "Ubuntu" => {
            // `22.04:LTS`, `Pro:16.04:LTS`; `Pro:FIPS:…` and the like are other archives, that nothing here knows to be entitled to.
            let parts: Vec<&str> = rest.split(':').collect();
            let release = match parts[..] {
                ["Pro", version, ..] if version.starts_with(|c: char| c.is_ascii_digit()) => {
                    format!("ubuntu-pro:{version}")
                }
                ["Pro", ..] => return None,
                [version, ..] => format!("ubuntu:{version}"),
                [] => "ubuntu:".to_owned(),
            };
            Some((Family::Dpkg, Names::Source, release))
        }
        "Alpine" => {
            let version = rest.strip_prefix('v').unwrap_or(rest);
            Some((Family::Apk, Names::Source, format!("alpine:{version}")))
        }
        "Wolfi" => of(Family::Apk, Names::Source, "wolfi"),
        "Chainguard" => of(Family::Apk, Names::Source, "chainguard"),
        "AlmaLinux" => of(Family::Rpm, Names::Binary, "almalinux"),
        "Rocky Linux" => of(Family::Rpm, Names::Either, "rocky"),
        "openEuler" => of(Family::Rpm, Names::Either, "openEuler"),
        "Mageia" => of(Family::Rpm, Names::Source, "mageia"),
        "Azure Linux" => of(Family::Rpm, Names::Either, "azurelinux"),
        "Photon OS" => of(Family::Rpm, Names::Binary, "photon"),
        "Red Hat" => Some((Family::Rpm, Names::Binary, red_hat(rest))),
        "SUSE" | "openSUSE" => {
            let text = if name == "openSUSE" {
                format!("openSUSE {rest}")
            } else {
                format!("SUSE {rest}")
            };
            Some((Family::Rpm, Names::Either, release_of(&text)?))
        }
        _ => None,
    }
}

/// `rhel_aus:8.6::appstream` is a CPE without its beginning, whose part is `o` for the base system and `a` for the rest.
fn red_hat(rest: &str) -> String {
    let is_base = rest.starts_with("enterprise_linux:")
        && !rest.contains("::appstream")
        && !rest.contains("::crb");
    let part = if is_base { 'o' } else { 'a' };
    format!("cpe:/{part}:redhat:{rest}")
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let osv: Osv = json::document(document.input)?;
    out.entry();
    let own = std::iter::once(&osv.id)
        .chain(&osv.aliases)
        .chain(&osv.upstream);
    let mut cves: Vec<String> = own.filter(|name| is_cve(name)).cloned().collect();
    // Vendors' advisories name what they mend as related; so do others what merely has to do with it.
    if cves.is_empty() {
        cves.extend(osv.related.iter().filter(|name| is_cve(name)).cloned());
    }
    let scores = osv.severity.unwrap_or_default();
    let cvss = |version: &str| {
        let found = scores.iter().find(|one| one.kind == version);
        found
            .map(|one| one.score.clone())
            .filter(|vector| score_of(vector).is_some())
    };
    // The version that vendors' qualitative words are made from goes first.
    let vector = cvss("CVSS_V3")
        .or_else(|| cvss("CVSS_V4"))
        .or_else(|| cvss("CVSS_V2"));
    let ubuntu = scores
        .iter()
        .find(|one| one.kind == "Ubuntu")
        .map(|one| one.score.clone());
    let specific = osv.database_specific.and_then(|one| one.severity);
    let advisory = AdvisoryDraft {
        id: osv.id.clone(),
        cves,
        aliases: osv.aliases,
        word: ubuntu
            .or_else(|| specific.and_then(|word| word.as_str().map(str::to_owned)))
            .or_else(|| word_of(osv.summary.as_deref().unwrap_or_default())),
        vector,
        published: osv.published,
        modified: Some(osv.modified),
        withdrawn: osv.withdrawn.is_some(),
        references: osv
            .references
            .unwrap_or_default()
            .into_iter()
            .map(|one| one.url)
            .collect(),
        ..AdvisoryDraft::default()
    };
    let number = out.advisory(&advisory)?;
    for affected in osv.affected.unwrap_or_default() {
        let named = |error: Error| {
            let name = affected
                .package
                .as_ref()
                .map_or("", |package| package.name.as_str());
            Error::new(error.kind(), format!("{}: affected {name:?}", osv.id)).because(error)
        };
        state(&affected, number, out).map_err(named)?;
    }
    Ok(())
}

/// `Important: gupnp security update`, as AlmaLinux' and Rocky's summaries begin.
fn word_of(summary: &str) -> Option<String> {
    let (word, _) = summary.split_once(':')?;
    let word = word
        .strip_prefix("Red Hat Security Advisory")
        .unwrap_or(word);
    crate::Severity::of_word(word).map(|_| word.to_owned())
}

fn state(affected: &Affected, number: u32, out: &mut Builder) -> Result<()> {
    let Some(package) = &affected.package else {
        out.elsewhere();
        return Ok(());
    };
    let Some((family, names, release)) = place(&package.ecosystem) else {
        out.elsewhere();
        return Ok(());
    };
    let source = package.purl.as_deref().and_then(PackageUrl::parse);
    let is_source = source.is_some_and(|purl| matches!(purl.qualifier("arch"), "source" | "src"));
    let names = if is_source { Names::Source } else { names };
    let base = Claim::new(
        family,
        &canonical_name(family, &package.name),
        names,
        &release,
    );
    if names == Names::Either && state_binaries(affected, &base, number, out)? {
        return Ok(());
    }
    let mut intervals = Vec::new();
    let mut of_commits = false;
    for range in affected.ranges.iter().flatten() {
        if range.kind == "GIT" {
            of_commits = true;
            continue;
        }
        intervals_of(range, family, &base, &mut intervals)?;
    }
    let listed = affected.versions.iter().flatten();
    let alone: Vec<&String> = listed
        .filter(|version| !is_covered(version, family, &intervals))
        .collect();
    for version in alone {
        let mut one = base.clone();
        version.clone_into(&mut one.introduced);
        version.clone_into(&mut one.last_affected);
        intervals.push(one);
    }
    if intervals.is_empty() && of_commits {
        out.elsewhere();
    }
    for mut claim in intervals {
        if is_modular(&claim.fixed) {
            SOME_MODULE.clone_into(&mut claim.module);
        }
        out.state(&claim, &[number])?;
    }
    Ok(())
}

/// Whether a listed version lies in an interval already.
fn is_covered(version: &str, family: Family, intervals: &[Claim]) -> bool {
    intervals.iter().any(|one| {
        let order = |other: &str| family.compare(version, other);
        (one.introduced.is_empty() || order(&one.introduced).is_ge())
            && (one.fixed.is_empty() || order(&one.fixed).is_lt())
            && (one.last_affected.is_empty() || order(&one.last_affected).is_le())
    })
}

/// The intervals of a range: each event that begins one, to the next that ends it.
fn intervals_of(range: &Range, family: Family, base: &Claim, out: &mut Vec<Claim>) -> Result<()> {
    const ORDER: [&str; 4] = ["introduced", "fixed", "last_affected", "limit"];
    let mut events = Vec::new();
    for event in &range.events {
        for (key, version) in event {
            let at = ORDER.iter().position(|known| known == key);
            let at =
                at.ok_or_else(|| Error::unsupported(format!("an event of the key {key:?}")))?;
            events.push((version.as_str(), at));
        }
    }
    if !events.iter().any(|(_, at)| *at == 0) {
        return Err(Error::corrupt(
            "the key events: a range that is never introduced",
        ));
    }
    // The schema lets events stand in any order; `0` is before every version.
    events.sort_by(|(one, first), (other, second)| {
        let order = match (*one == "0", *other == "0") {
            (true, true) => std::cmp::Ordering::Equal,
            (true, false) => std::cmp::Ordering::Less,
            (false, true) => std::cmp::Ordering::Greater,
            (false, false) => family.compare(one, other),
        };
        order.then(first.cmp(second))
    });
    let mut open: Option<Claim> = None;
    for (version, at) in events {
        match (at, open.take()) {
            (0, None) => {
                let mut claim = base.clone();
                if version != "0" {
                    version.clone_into(&mut claim.introduced);
                }
                open = Some(claim);
            }
            (0 | 3, Some(still)) => open = Some(still),
            (1, Some(claim)) if claim.introduced.is_empty() && is_zero(version) => {
                out.push(claim.fixed_in(version));
            }
            (1, Some(mut claim)) => {
                version.clone_into(&mut claim.fixed);
                out.push(claim);
            }
            (2, Some(mut claim)) => {
                version.clone_into(&mut claim.last_affected);
                out.push(claim);
            }
            (_, other) => open = other,
        }
    }
    out.extend(open);
    Ok(())
}

/// SUSE names the installed packages beside the source's: `{"binaries": [{"name": "version"}]}`. Whether there were any.
fn state_binaries(
    affected: &Affected,
    base: &Claim,
    number: u32,
    out: &mut Builder,
) -> Result<bool> {
    let specific = affected.ecosystem_specific.as_ref();
    let binaries = specific.and_then(|one| one.get("binaries")?.as_array());
    let mut any = false;
    for (name, version) in binaries
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_object())
        .flatten()
    {
        let Some(version) = version.as_str() else {
            continue;
        };
        let mut claim = base.clone();
        name.clone_into(&mut claim.package);
        claim.names = Names::Binary;
        out.state(&claim.fixed_in(version), &[number])?;
        any = true;
    }
    Ok(any)
}
