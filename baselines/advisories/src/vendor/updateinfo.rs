//! `updateinfo.xml` of rpm repositories: AlmaLinux, Rocky, Amazon, Oracle, SUSE, Fedora, Red Hat.
//!
//! Of its updates those for security make statements; the others are counted and make none. The release stands in the update, in its
//! collection, or, where neither names one, in the updates' names and the packages' own releases (`.el8`).

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::Result;
use dormouse_packages::Family;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::xml::{Element, Node, Nodes};
use super::{Beginning, Document, head, is_cve};
use crate::catalogue::Builder;
use crate::judgement::is_modular;
use crate::statement::{AdvisoryDraft, Claim, Names, SOME_MODULE};
use crate::target::release_of;

/// Packages of one update. Kernels of all architectures have some hundred.
const MAX_PACKAGES: usize = 100_000;

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    head::root_element(beginning.text) == Some("updates")
}

/// What the names of a vendor's advisories begin with, and its system.
const VENDORS: &[(&str, &str)] = &[
    ("ALSA", "almalinux"),
    ("ALBA", "almalinux"),
    ("ALEA", "almalinux"),
    ("RLSA", "rocky"),
    ("RLBA", "rocky"),
    ("RLEA", "rocky"),
    ("RXSA", "rocky"),
    ("ELSA", "ol"),
    ("ELBA", "ol"),
    ("ELEA", "ol"),
    ("RHSA", "rhel"),
    ("RHBA", "rhel"),
    ("RHEA", "rhel"),
    ("ALAS", "amzn"),
    ("FEDORA", "fedora"),
];
/// What releases of packages have of the system that they were built for.
const TAGS: [&str; 5] = [".module_el", ".module+el", ".el", ".amzn", ".fc"];

/// The release by the advisory's name and the package's release: `ALSA-2023:1` and `5.el8_8`.
fn release_by_tag(id: &str, release: &str) -> Option<String> {
    let (_, system) = VENDORS.iter().find(|(prefix, _)| id.starts_with(prefix))?;
    let after = TAGS
        .iter()
        .find_map(|tag| Some(release.split_once(tag)?.1))?;
    let end = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    let number = after.get(..end).filter(|number| !number.is_empty())?;
    Some(format!("{system}:{number}"))
}

/// `2012-12-12 00:00:00`, with `UTC` or a fraction behind it, a day alone, RFC 3339, or seconds since 1970; always UTC.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_end_matches("UTC").trim_end();
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    let civil: DateTime = text.parse().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// An update being read.
#[derive(Default)]
struct Update {
    draft: AdvisoryDraft,
    kind: String,
    release: String,
    collection: String,
    module: String,
    /// Packages with their collection's release and module.
    claims: BTreeMap<Claim, BTreeSet<String>>,
    unplaced: usize,
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let mut nodes = Nodes::of(document.input);
    let mut update: Option<Update> = None;
    while let Some(node) = nodes.next()? {
        match node {
            Node::Start(element) if element.name == "update" => {
                update = Some(Update {
                    kind: element.get("type").to_owned(),
                    ..Update::default()
                });
            }
            Node::Start(element) => {
                if let Some(update) = &mut update {
                    start(update, &element, &mut nodes, out)?;
                }
            }
            Node::End(name) if name == "update" => {
                if let Some(update) = update.take() {
                    finish(update, &nodes, out)?;
                }
            }
            Node::End(_) | Node::Text(_) => {}
        }
    }
    Ok(())
}

fn start(
    update: &mut Update,
    element: &Element,
    nodes: &mut Nodes<'_>,
    out: &mut Builder,
) -> Result<()> {
    match element.name.as_str() {
        "id" => update.draft.id = nodes.text()?,
        "severity" => {
            let word = nodes.text()?;
            update.draft.word = (!word.is_empty()).then_some(word);
        }
        "release" => update.release = nodes.text()?,
        "issued" | "updated" => {
            let date = instant(element.get("date"));
            if date.is_none() {
                out.unread();
            }
            if element.name == "issued" {
                update.draft.published = date;
            } else {
                update.draft.modified = date;
            }
        }
        "reference" => {
            let (id, title) = (element.get("id"), element.get("title"));
            let words = [
                id,
                title.split_ascii_whitespace().next().unwrap_or_default(),
            ];
            let names = words.into_iter().filter(|name| is_cve(name));
            update.draft.cves.extend(names.map(str::to_owned));
            update.draft.references.push(element.get("href").to_owned());
        }
        // Old updates name what they mend in their title and description alone.
        "title" | "summary" | "description" => {
            let text = nodes.text()?;
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            let names = words.filter(|name| is_cve(name));
            update.draft.cves.extend(names.map(str::to_owned));
        }
        "collection" => {
            element.get("short").clone_into(&mut update.collection);
            update.module.clear();
        }
        "name" => {
            let name = nodes.text()?;
            if release_of(&update.collection).is_none() {
                update.collection = name;
            }
        }
        "module" => update.module = format!("{}:{}", element.get("name"), element.get("stream")),
        "package" => package(update, element, nodes)?,
        _ => {}
    }
    Ok(())
}

/// `w3m-img-0.5.1-15.fc5.x86_64.rpm` of version 0.5.1 and release 15.fc5: its name and architecture. Fedora once gave every package its
/// source's name and kept the file's right.
fn of_file<'a>(file: &'a str, version: &str, release: &str) -> Option<(&'a str, &'a str)> {
    let (stem, architecture) = file
        .rsplit('/')
        .next()?
        .strip_suffix(".rpm")?
        .rsplit_once('.')?;
    let name = stem.strip_suffix(&format!("-{version}-{release}"))?;
    Some((name, architecture))
}

fn package(update: &mut Update, element: &Element, nodes: &mut Nodes<'_>) -> Result<()> {
    let (name, version, release) = (
        element.get("name"),
        element.get("version"),
        element.get("release"),
    );
    let mut file = String::new();
    while let Some(node) = nodes.next()? {
        match node {
            Node::Start(inner) if inner.name == "filename" => file = nodes.text()?,
            Node::Start(inner) if inner.name == "package" => {
                return Err(nodes.bad("a package in a package"));
            }
            Node::End(name) if name == "package" => break,
            _ => {}
        }
    }
    for (key, value) in [("name", name), ("version", version), ("release", release)] {
        if value.is_empty() {
            return Err(nodes.bad(format!(
                "{}: a package without the attribute {key}",
                update.draft.id
            )));
        }
    }
    let (name, architecture) =
        of_file(&file, version, release).unwrap_or((name, element.get("arch")));
    if matches!(architecture, "src" | "nosrc") {
        return Ok(());
    }
    let place = release_of(&update.release)
        .or_else(|| release_of(&update.collection))
        .or_else(|| release_by_tag(&update.draft.id, release));
    let Some(place) = place else {
        update.unplaced = update.unplaced.saturating_add(1);
        return Ok(());
    };
    let evr = match element.get("epoch") {
        "" | "0" => format!("{version}-{release}"),
        epoch => format!("{epoch}:{version}-{release}"),
    };
    let mut claim = Claim::new(Family::Rpm, name, Names::Binary, &place).fixed_in(&evr);
    claim.module.clone_from(&update.module);
    if claim.module.is_empty() && is_modular(&evr) {
        SOME_MODULE.clone_into(&mut claim.module);
    }
    if update.claims.len() >= MAX_PACKAGES {
        return Err(nodes.bad("an update of more than 100000 packages"));
    }
    let architectures = update.claims.entry(claim).or_default();
    architectures.insert(architecture.to_owned());
    Ok(())
}

fn finish(update: Update, nodes: &Nodes<'_>, out: &mut Builder) -> Result<()> {
    out.entry();
    if update.draft.id.is_empty() {
        return Err(nodes.bad("an update without the key id"));
    }
    let number = out.advisory(&update.draft)?;
    // What is no security update is no reason to call a package affected.
    if update.kind != "security" {
        return Ok(());
    }
    for _ in 0..update.unplaced {
        out.elsewhere();
    }
    for (mut claim, architectures) in update.claims {
        let all: Vec<String> = architectures
            .into_iter()
            .filter(|one| !one.is_empty())
            .collect();
        claim.architectures = all.join(" ");
        let named =
            |error: dormouse_block::Error| nodes.bad(update.draft.id.clone()).because(error);
        out.state(&claim, &[number]).map_err(named)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_every_form_that_vendors_write() {
        for (text, instant_of) in [
            ("2012-12-12 00:00:00", "2012-12-12T00:00:00Z"),
            ("2013-01-27 16:08:05 UTC", "2013-01-27T16:08:05Z"),
            ("2007-01-15 11:26:31.79", "2007-01-15T11:26:31.79Z"),
            ("1208907002", "2008-04-22T23:30:02Z"),
            ("2024-07-23T22:05:39Z", "2024-07-23T22:05:39Z"),
            ("2007-06-26T00:00:00", "2007-06-26T00:00:00Z"),
            ("2007-06-26", "2007-06-26T00:00:00Z"),
        ] {
            assert_eq!(
                instant(text).map(|one| one.to_string()).as_deref(),
                Some(instant_of),
                "{text}"
            );
        }
        assert_eq!(instant("15mangled2"), None);
    }

    #[test]
    fn a_release_is_told_by_the_advisory_s_name_and_the_package_s_tag() {
        let release = |id, release| release_by_tag(id, release);
        assert_eq!(
            release("ALSA-2023:1", "5.el8_8.1").as_deref(),
            Some("almalinux:8")
        );
        assert_eq!(
            release("RLSA-2023:1", "1.module+el9.2.0+1+2").as_deref(),
            Some("rocky:9")
        );
        assert_eq!(
            release("ALAS2023-2024-1", "1.amzn2023.0.1").as_deref(),
            Some("amzn:2023")
        );
        assert_eq!(
            release("FEDORA-2024-1", "1.fc40").as_deref(),
            Some("fedora:40")
        );
        assert_eq!(release("FOO-1", "1.el8"), None);
        assert_eq!(release("ALSA-1", "1"), None);
        assert_eq!(
            of_file("w3m-img-0.5.1-15.fc5.x86_64.rpm", "0.5.1", "15.fc5"),
            Some(("w3m-img", "x86_64"))
        );
        assert_eq!(of_file("a-1-1.x86_64.rpm", "2", "1"), None);
    }
}
