//! Alpine's security database, and Wolfi's and Chainguard's, which have its form: JSON, and the YAML that it was written in until 2021.
//!
//! It names source packages and says what is mended, nothing else: a CVE without a mended version is not in it. A mended version of
//! `0` says that no version was ever affected.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};

use dormouse_block::{Error, Result};
use dormouse_packages::Family;
use serde::Deserialize;

use super::{Beginning, Document, json};
use crate::catalogue::Builder;
use crate::statement::{AdvisoryDraft, Claim, Names};

/// Bytes of one line of YAML.
const MAX_LINE: u64 = 64 << 10;

#[derive(Deserialize)]
struct Entry {
    pkg: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    secfixes: BTreeMap<String, Vec<String>>,
}

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    match &beginning.json {
        Some(head) => head.has("apkurl") || (head.has("urlprefix") && head.has("reponame")),
        None => {
            let mut lines = beginning.text.lines();
            lines.any(|line| line.starts_with("distroversion: ") || line.starts_with("reponame: "))
                && !beginning.text.starts_with('<')
        }
    }
}

/// `v3.19` is of Alpine; Wolfi and Chainguard have no versions, and their own place.
fn release(version: &str, url: &str) -> Result<String> {
    if url.contains("wolfi") {
        return Ok("wolfi:".to_owned());
    }
    if url.contains("chainguard") || url.contains("cgr.dev") {
        return Ok("chainguard:".to_owned());
    }
    let number = version.strip_prefix('v').unwrap_or(version);
    if number != "edge" && !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Error::unsupported(format!(
            "the key distroversion is {version:?}: no release of Alpine"
        )));
    }
    Ok(format!("alpine:{number}"))
}

fn state(out: &mut Builder, release: &str, package: &Package) -> Result<()> {
    out.entry();
    for (version, names) in &package.secfixes {
        for name in names {
            // `CVE-2019-1 GHSA-x (+ a note)`: the first is the name, the others its aliases.
            let mut words = name.split_ascii_whitespace();
            let Some(id) = words.next() else {
                continue;
            };
            let aliases: Vec<String> = words.map(str::to_owned).collect();
            let all = std::iter::once(id).chain(aliases.iter().map(String::as_str));
            let cves = all.filter(|one| super::is_cve(one)).map(str::to_owned);
            let advisory = AdvisoryDraft {
                id: id.to_owned(),
                cves: cves.collect(),
                aliases,
                ..AdvisoryDraft::default()
            };
            let number = out.advisory(&advisory)?;
            let claim = Claim::new(Family::Apk, &package.name, Names::Source, release);
            out.state(&claim.fixed_in(version), &[number])?;
        }
    }
    Ok(())
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let first = document
        .input
        .fill_buf()
        .map_err(|error| Error::io("cannot read the feed", error))?;
    if first.trim_ascii_start().first() != Some(&b'{') {
        return read_yaml(document, out);
    }
    let (mut version, mut url) = (String::new(), String::new());
    let mut packages = Vec::new();
    // The release may stand behind the packages; one release has some thousand of them.
    json::elements(
        document.input,
        &["packages"],
        &mut |key, text| match key {
            "distroversion" => text.clone_into(&mut version),
            "urlprefix" => text.clone_into(&mut url),
            _ => {}
        },
        &mut |entry: Entry| {
            packages.push(entry.pkg);
            Ok(())
        },
    )?;
    let release = release(&version, &url)?;
    packages
        .iter()
        .try_for_each(|package| state(out, &release, package))
}

/// Reads what Alpine wrote of YAML: scalars and lists of scalars, one to a line, and packages of `name` and `secfixes`.
fn read_yaml(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let (mut version, mut url) = (String::new(), String::new());
    let mut packages: Vec<Package> = Vec::new();
    let mut fixes = (0_usize, false);
    let mut mended: Option<String> = None;
    let mut line = String::new();
    let mut in_packages = false;
    for number in 1_u64.. {
        line.clear();
        let read = (&mut *document.input)
            .take(MAX_LINE)
            .read_line(&mut line)
            .map_err(|error| Error::io("cannot read the feed", error))?;
        if read == 0 {
            break;
        }
        let bad = |what: &str| Error::corrupt(format!("line {number}: {what}"));
        let code = line.split(" #").next().unwrap_or_default().trim_end();
        let text = code.trim_start();
        let depth = code.len().saturating_sub(text.len());
        if text.is_empty() || text.starts_with('#') || text == "---" {
            continue;
        }
        if text.contains('\t') {
            return Err(bad("a tab"));
        }
        let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        if !in_packages || (depth == 0 && !text.starts_with('-')) {
            if text.starts_with("- ") {
                continue;
            }
            let (key, value) = text.split_once(':').ok_or_else(|| bad("no key"))?;
            match key {
                "distroversion" => version = unquoted(value),
                "urlprefix" => url = unquoted(value),
                _ => {}
            }
            in_packages = key == "packages";
            continue;
        }
        if text == "- pkg:" {
            packages.push(Package {
                name: String::new(),
                secfixes: BTreeMap::new(),
            });
            fixes = (0, false);
            mended = None;
            continue;
        }
        let package = packages.last_mut().ok_or_else(|| bad("no package yet"))?;
        if let Some(item) = text.strip_prefix("- ") {
            let version = mended
                .as_ref()
                .ok_or_else(|| bad("a name under no version"))?;
            let names = package.secfixes.entry(version.clone()).or_default();
            names.push(unquoted(item));
            continue;
        }
        let (key, value) = text.rsplit_once(':').ok_or_else(|| bad("no key"))?;
        // `name: x` has a value behind its colon; a version has none, and is below `secfixes`.
        if fixes.1 && depth > fixes.0 {
            if !value.trim().is_empty() && value.trim() != "[]" {
                return Err(bad("a version with a value"));
            }
            mended = Some(unquoted(key));
            continue;
        }
        match key.trim() {
            "name" => package.name = unquoted(value),
            "secfixes" => fixes = (depth, true),
            other => return Err(bad(&format!("the key {other:?} of a package"))),
        }
    }
    if !in_packages && packages.is_empty() {
        return Err(Error::corrupt("no key packages"));
    }
    let release = release(&version, &url)?;
    packages
        .iter()
        .try_for_each(|package| state(out, &release, package))
}
