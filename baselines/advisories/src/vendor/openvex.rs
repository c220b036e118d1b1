//! OpenVEX documents: what a user, or a vendor, says of products and vulnerabilities.
//!
//! Source: the OpenVEX specification v0.2.0. Products and subcomponents are taken where they are package URLs; a statement about a
//! product's subcomponents is about those.

use dormouse_block::{Error, Result};
use jiff::Timestamp;
use serde::Deserialize;

use super::purl::PackageUrl;
use super::{Beginning, Document, is_cve, json};
use crate::catalogue::Builder;
use crate::statement::{AdvisoryDraft, Status};

#[derive(Deserialize)]
struct Vex {
    #[serde(rename = "@id")]
    id: String,
    timestamp: Timestamp,
    #[serde(default)]
    last_updated: Option<Timestamp>,
    statements: Vec<Statement>,
}

#[derive(Deserialize)]
struct Statement {
    vulnerability: Vulnerability,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    products: Vec<Product>,
    status: String,
    #[serde(default)]
    justification: Option<String>,
    #[serde(default)]
    impact_statement: Option<String>,
}

/// Version 0.2 has an object; before it was a name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vulnerability {
    Name(String),
    Object {
        #[serde(default)]
        name: Option<String>,
        #[serde(default, rename = "@id")]
        id: Option<String>,
        #[serde(default)]
        aliases: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Product {
    Name(String),
    Object {
        #[serde(default, rename = "@id")]
        id: Option<String>,
        #[serde(default)]
        identifiers: Identifiers,
        #[serde(default)]
        subcomponents: Vec<Product>,
    },
}

#[derive(Default, Deserialize)]
struct Identifiers {
    #[serde(default)]
    purl: Option<String>,
}

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    beginning.json.as_ref().is_some_and(|head| {
        head.value("@context").contains("openvex") || (head.has("@id") && head.has("statements"))
    })
}

/// The package URLs that a product is: its subcomponents' where it has any.
fn purls<'a>(product: &'a Product, out: &mut Vec<&'a str>) {
    match product {
        Product::Name(name) => out.push(name),
        Product::Object {
            id,
            identifiers,
            subcomponents,
        } => {
            if subcomponents.is_empty() {
                out.extend(identifiers.purl.as_deref().or(id.as_deref()));
            }
            // Subcomponents of subcomponents are none of the specification's.
            for one in subcomponents {
                match one {
                    Product::Name(name) => out.push(name),
                    Product::Object {
                        id, identifiers, ..
                    } => {
                        out.extend(identifiers.purl.as_deref().or(id.as_deref()));
                    }
                }
            }
        }
    }
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let vex: Vex = json::document(document.input)?;
    out.entry();
    out.dated(vex.last_updated.unwrap_or(vex.timestamp));
    for (place, statement) in vex.statements.iter().enumerate() {
        let bad = |what: String| Error::corrupt(format!("the key statements[{place}].{what}"));
        let (name, aliases) = match &statement.vulnerability {
            Vulnerability::Name(name) => (Some(name), &[][..]),
            Vulnerability::Object { name, id, aliases } => {
                (name.as_ref().or(id.as_ref()), &aliases[..])
            }
        };
        let name = name.ok_or_else(|| bad("vulnerability: it has no name".into()))?;
        let status = match statement.status.as_str() {
            "not_affected" => Status::NotAffected,
            "affected" => Status::Affected,
            "fixed" => Status::Fixed,
            "under_investigation" => Status::UnderInvestigation,
            other => return Err(bad(format!("status: {other:?}"))),
        };
        let because = statement
            .justification
            .as_ref()
            .or(statement.impact_statement.as_ref());
        if status == Status::NotAffected && because.is_none() {
            return Err(bad(
                "status: not_affected without justification or impact_statement".into(),
            ));
        }
        let cves = std::iter::once(name)
            .chain(aliases)
            .filter(|one| is_cve(one));
        let mut cves: Vec<String> = cves.cloned().collect();
        if cves.is_empty() {
            cves.push(name.clone());
        }
        let advisory = AdvisoryDraft {
            id: vex.id.clone(),
            cves,
            aliases: aliases.to_vec(),
            published: Some(statement.timestamp.unwrap_or(vex.timestamp)),
            ..AdvisoryDraft::default()
        };
        let number = out.advisory(&advisory)?;
        let mut named = Vec::new();
        statement
            .products
            .iter()
            .for_each(|product| purls(product, &mut named));
        for purl in named {
            let Some(mut claim) = PackageUrl::parse(purl).and_then(|purl| purl.claim()) else {
                out.elsewhere();
                continue;
            };
            claim.status = status;
            because
                .cloned()
                .unwrap_or_default()
                .clone_into(&mut claim.note);
            out.state(&claim, &[number])?;
        }
    }
    Ok(())
}
