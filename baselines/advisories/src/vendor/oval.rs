//! OVAL definitions of vulnerabilities and patches: Debian, SUSE, Oracle, Azure Linux and Mariner, Photon.
//!
//! Source: the OVAL definition schema 5.11. Definitions name tests, which name objects (packages) and states (versions), all in this
//! order; so definitions are held, every text once, until the states are read. Criteria are taken for what these vendors write: a
//! release, a module and an architecture narrow the tests beside them; of packages joined by AND each is a statement of its own.

mod criteria;
mod tests_and_states;

use dormouse_block::Result;

use self::criteria::{Criteria, MAX_CRITERIA};
use self::tests_and_states::Resolver;
use super::updateinfo::instant;
use super::xml::{Element, Node, Nodes};
use super::{Beginning, Document, head, is_cve};
use crate::catalogue::{Builder, Symbols};
use crate::statement::AdvisoryDraft;
use crate::target::release_of;

/// Definitions of one feed. SUSE's of all products has fewer than 100,000.
const MAX_DEFINITIONS: usize = 1_000_000;

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    head::root_element(beginning.text) == Some("oval_definitions")
}

/// A definition being read, or held.
#[derive(Default)]
struct Definition {
    draft: AdvisoryDraft,
    class: String,
    platforms: Vec<String>,
    criteria: Option<Criteria>,
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let by_name = release_by_name(document.name);
    let mut nodes = Nodes::of(document.input);
    let mut symbols = Symbols::new();
    let mut resolver = Resolver::default();
    let mut definitions: Vec<Definition> = Vec::new();
    let mut criteria = 0_usize;
    while let Some(node) = nodes.next()? {
        let Node::Start(element) = node else {
            continue;
        };
        match element.name.as_str() {
            "timestamp" => {
                if let Some(date) = instant(&nodes.text()?) {
                    out.dated(date);
                }
            }
            "definition" => {
                out.entry();
                let definition = definition(&element, &mut nodes, &mut symbols, &mut criteria)?;
                if matches!(definition.class.as_str(), "vulnerability" | "patch") {
                    if definitions.len() >= MAX_DEFINITIONS || criteria > MAX_CRITERIA {
                        return Err(
                            nodes.bad("more definitions or criteria than are read of one feed")
                        );
                    }
                    definitions.push(definition);
                }
            }
            _ => resolver.take(&element, &mut nodes, &mut symbols)?,
        }
    }
    for definition in definitions {
        let Some(criteria) = &definition.criteria else {
            continue;
        };
        let mut releases: Vec<String> = definition
            .platforms
            .iter()
            .filter_map(|name| release_of(name))
            .collect();
        if releases.is_empty() {
            releases.extend(by_name.clone());
        }
        let number = out.advisory(&definition.draft)?;
        let named = |error: dormouse_block::Error| {
            let what = format!("the definition {}", definition.draft.id);
            dormouse_block::Error::new(error.kind(), what).because(error)
        };
        for claim in resolver
            .claims(criteria, &releases, &symbols)
            .map_err(named)?
        {
            match claim {
                Some(claim) => out.state(&claim, &[number]).map_err(named)?,
                None => out.elsewhere(),
            }
        }
    }
    Ok(())
}

/// `azurelinux-3.0-oval.xml`, `cbl-mariner-2.0-oval.xml`: Microsoft says the release in the file's name alone.
fn release_by_name(name: &str) -> Option<String> {
    let (system, rest) = [("azurelinux-", "azurelinux"), ("cbl-mariner-", "mariner")]
        .into_iter()
        .find_map(|(prefix, system)| Some((system, name.split_once(prefix)?.1)))?;
    let version = rest.split('-').next()?;
    let is_version = version.starts_with(|c: char| c.is_ascii_digit());
    is_version.then(|| format!("{system}:{version}"))
}

fn definition(
    start: &Element,
    nodes: &mut Nodes<'_>,
    symbols: &mut Symbols,
    count: &mut usize,
) -> Result<Definition> {
    let mut definition = Definition {
        class: start.get("class").to_owned(),
        ..Definition::default()
    };
    let mut title = String::new();
    let draft = &mut definition.draft;
    loop {
        let Some(node) = nodes.next()? else {
            return Err(nodes.bad("the feed ends in a definition"));
        };
        match node {
            Node::End(name) if name == "definition" => break,
            Node::Start(element) => match element.name.as_str() {
                "title" => title = nodes.text()?,
                "platform" => definition.platforms.push(nodes.text()?),
                "severity" => {
                    let word = nodes.text()?;
                    draft.word = (!word.is_empty()).then_some(word);
                }
                "reference" => {
                    let id = element.get("ref_id");
                    draft.references.push(element.get("ref_url").to_owned());
                    if is_cve(id) {
                        draft.cves.push(id.to_owned());
                    } else {
                        draft.aliases.push(id.to_owned());
                    }
                }
                "cve" => {
                    // `cvss3="5.5/CVSS:3.1/AV:L/…"`.
                    let score = element.get("cvss3").split_once('/');
                    if let (None, Some((score, vector))) = (&draft.vector, score) {
                        draft.score = Some(score.to_owned());
                        draft.vector = Some(vector.to_owned());
                    }
                    let name = nodes.text()?;
                    draft.cves.extend(is_cve(&name).then_some(name));
                }
                "issued" => draft.published = instant(element.get("date")),
                "updated" => draft.modified = instant(element.get("date")),
                "advisory_date" => draft.published = instant(&nodes.text()?),
                "criteria" => {
                    definition.criteria = Some(Criteria::read(&element, nodes, symbols, count)?);
                }
                _ => {}
            },
            Node::End(_) | Node::Text(_) => {}
        }
    }
    // `ELSA-2007-0057:  Moderate: …`, `CVE-2014-8139 affecting package …`.
    let word = title.split_ascii_whitespace().next().unwrap_or_default();
    let word = word.trim_end_matches(':');
    let is_name = word.contains('-') && word.contains(|c: char| c.is_ascii_digit());
    draft.id = if is_name { word } else { start.get("id") }.to_owned();
    if is_cve(word) && draft.cves.is_empty() {
        draft.cves.push(word.to_owned());
    }
    Ok(definition)
}
