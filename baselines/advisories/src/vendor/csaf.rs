//! Common Security Advisory Framework 2.0: vendors' advisories and VEX, and VEX of a user's own.
//!
//! Source: CSAF 2.0 (OASIS), sections 3.2.2 (product tree) and 3.2.3 (vulnerabilities). Vendors say which package is fixed as a component
//! of which product, known by its CPE, sometimes by way of a module: what is older is affected. A product that is a package URL by
//! itself is that version and no other.

mod document;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dormouse_block::{Error, Result};
use dormouse_packages::Family;

use self::document::{Branch, Csaf, Meta, Product, Tree, Vulnerability};
use super::purl::PackageUrl;
use super::{Beginning, Document, is_cve, json};
use crate::catalogue::Builder;
use crate::judgement::is_modular;
use crate::statement::{AdvisoryDraft, Claim, Names, SOME_MODULE, Status};

/// How many relationships lead from a component to its product: through a module, and one more.
const MAX_STEPS: usize = 8;

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    beginning.json.as_ref().is_some_and(|head| {
        head.has("product_tree")
            || (head.has("document") && beginning.text.contains("\"csaf_version\""))
    })
}

/// Products by their ids, and what each is a component of.
struct Products<'a> {
    known: HashMap<&'a str, &'a Product>,
    related: HashMap<&'a str, (&'a str, &'a str)>,
}

/// A component of a product, resolved.
struct Component<'a> {
    purl: PackageUrl,
    /// The product's CPE; `None` where the package stands for itself.
    cpe: Option<&'a str>,
    module: Option<String>,
}

impl<'a> Products<'a> {
    fn of(tree: &'a Tree) -> Self {
        let mut products = Self {
            known: HashMap::new(),
            related: HashMap::new(),
        };
        let mut branches: Vec<&Branch> = tree.branches.iter().collect();
        while let Some(branch) = branches.pop() {
            branches.extend(&branch.branches);
            if let Some(product) = &branch.product {
                products.known.insert(&product.product_id, product);
            }
        }
        for product in &tree.full_product_names {
            products.known.insert(&product.product_id, product);
        }
        for one in &tree.relationships {
            let both = (&*one.product_reference, &*one.relates_to_product_reference);
            products
                .related
                .insert(&one.full_product_name.product_id, both);
            products
                .known
                .insert(&one.full_product_name.product_id, &one.full_product_name);
        }
        products
    }

    fn purl(&self, id: &str) -> Option<PackageUrl> {
        let helper = &self.known.get(id)?.product_identification_helper;
        PackageUrl::parse(helper.purl.as_deref()?)
    }

    fn cpe(&self, id: &str) -> Option<&'a str> {
        self.known
            .get(id)?
            .product_identification_helper
            .cpe
            .as_deref()
    }

    /// What an id stands for; `None` where that is no package.
    fn component(&self, id: &'a str) -> Option<Component<'a>> {
        let mut purl = self.purl(id);
        let mut cpe = self.cpe(id);
        let mut module = None;
        // Every relationship has a component and what that is part of; either may be one again.
        let mut steps = vec![id];
        for _ in 0..MAX_STEPS {
            let Some(step) = steps.pop() else {
                break;
            };
            let Some(&(part, whole)) = self.related.get(step) else {
                continue;
            };
            for side in [part, whole] {
                match self.purl(side) {
                    Some(found) if found.kind == "rpmmod" => module = Some(module_of(&found)),
                    Some(found) => purl = purl.or(Some(found)),
                    None => {}
                }
                cpe = cpe.or_else(|| self.cpe(side));
                steps.push(side);
            }
        }
        let purl = purl.filter(|purl| purl.kind != "rpmmod")?;
        let qualifier = purl.qualifier("rpmmod");
        if module.is_none() && !qualifier.is_empty() {
            module = Some(first_two(qualifier));
        }
        Some(Component { purl, cpe, module })
    }
}

/// `name:stream` of a module's package URL `pkg:rpmmod/redhat/nodejs@14:8060020230906:ad008a3a`.
fn module_of(purl: &PackageUrl) -> String {
    let stream = purl.version.split(':').next().unwrap_or_default();
    match purl.name.split_once(':') {
        Some(_) => first_two(&purl.name),
        None => format!("{}:{stream}", purl.name),
    }
}

fn first_two(label: &str) -> String {
    let end = label
        .match_indices(':')
        .nth(1)
        .map_or(label.len(), |(at, _)| at);
    label.get(..end).unwrap_or(label).to_owned()
}

/// `cpe:/o:redhat:enterprise_linux:9`, from either way to write one.
fn uri_of(cpe: &str) -> String {
    match cpe.strip_prefix("cpe:2.3:") {
        Some(rest) => {
            let parts: Vec<&str> = rest
                .split(':')
                .map(|part| if part == "*" { "" } else { part })
                .collect();
            format!("cpe:/{}", parts.join(":").trim_end_matches(':'))
        }
        None => cpe.to_owned(),
    }
}

/// Claims with their architectures and the advisories that make them.
type Claims = BTreeMap<Claim, (BTreeSet<String>, Vec<u32>)>;

/// What a list of a vulnerability says of its products.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Fixed,
    Affected,
    FirstAffected,
    LastAffected,
    NotAffected,
    UnderInvestigation,
}

impl List {
    fn claim(self, component: &Component<'_>) -> Option<Claim> {
        let purl = &component.purl;
        let is_source = matches!(purl.qualifier("arch"), "src" | "source");
        // Of what is mended every package is listed that was built of the source.
        if self == Self::Fixed && is_source && component.cpe.is_some() {
            return None;
        }
        let mut claim = purl.claim()?;
        if let Some(cpe) = component.cpe {
            claim.release = uri_of(cpe);
        }
        if claim.family == Family::Rpm {
            claim.module = component.module.clone().unwrap_or_default();
            if claim.module.is_empty() && is_modular(&purl.version) {
                SOME_MODULE.clone_into(&mut claim.module);
            }
        }
        if claim.names == Names::Binary
            && purl.qualifier("arch").is_empty()
            && component.cpe.is_some()
        {
            claim.names = Names::Either;
        }
        match self {
            Self::Fixed if component.cpe.is_some() => {
                claim.fixed = std::mem::take(&mut claim.introduced);
                claim.last_affected.clear();
                if claim.fixed.is_empty() {
                    claim.status = Status::Fixed;
                }
            }
            Self::Fixed => claim.status = Status::Fixed,
            Self::Affected => {}
            Self::FirstAffected => claim.last_affected.clear(),
            Self::LastAffected => claim.introduced.clear(),
            Self::NotAffected => claim.status = Status::NotAffected,
            Self::UnderInvestigation => claim.status = Status::UnderInvestigation,
        }
        Some(claim)
    }
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let csaf: Csaf = json::document(document.input)?;
    out.entry();
    let products = Products::of(&csaf.product_tree);
    let mut claims = Claims::new();
    for (place, vulnerability) in csaf.vulnerabilities.iter().enumerate() {
        let named = |error: Error| {
            Error::new(error.kind(), format!("the key vulnerabilities[{place}]")).because(error)
        };
        let number = out
            .advisory(&advisory(&csaf.document, vulnerability))
            .map_err(named)?;
        gather(
            &csaf.document.tracking.id,
            vulnerability,
            &products,
            number,
            out,
            &mut claims,
        )
        .map_err(named)?;
    }
    for (mut claim, (architectures, advisories)) in claims {
        let all: Vec<String> = architectures.into_iter().collect();
        claim.architectures = all.join(" ");
        out.state(&claim, &advisories)?;
    }
    Ok(())
}

fn advisory(meta: &Meta, vulnerability: &Vulnerability) -> AdvisoryDraft {
    let tracking = &meta.tracking;
    let impact = vulnerability
        .threats
        .iter()
        .filter(|threat| &*threat.category == "impact");
    // A vendor may rate one CVE differently in each product; the worst is kept.
    let word = impact
        .filter(|threat| crate::Severity::of_word(&threat.details).is_some())
        .max_by_key(|threat| crate::Severity::of_word(&threat.details))
        .map(|threat| threat.details.to_string())
        .or_else(|| {
            meta.aggregate_severity
                .as_ref()
                .map(|words| words.text.to_string())
        });
    let scores = || vulnerability.scores.iter();
    let cvss = scores()
        .filter_map(|score| score.cvss_v3.as_ref())
        .chain(scores().filter_map(|score| score.cvss_v2.as_ref()))
        .next();
    let cve = vulnerability.cve.iter().filter(|cve| is_cve(cve)).cloned();
    let is_of_one = vulnerability.cve.as_ref() == Some(&tracking.id);
    AdvisoryDraft {
        id: tracking.id.clone(),
        cves: cve.collect(),
        aliases: vulnerability.ids.iter().map(|id| id.text.clone()).collect(),
        word,
        vector: cvss.map(|cvss| cvss.vector_string.clone()),
        score: cvss.map(|cvss| format!("{:.1}", cvss.base_score)),
        published: vulnerability
            .release_date
            .filter(|_| is_of_one)
            .or(Some(tracking.initial_release_date)),
        modified: Some(tracking.current_release_date),
        references: meta
            .references
            .iter()
            .map(|one| one.url.clone())
            .filter(|url| !url.is_empty())
            .collect(),
        ..AdvisoryDraft::default()
    }
}

fn gather(
    document: &str,
    vulnerability: &Vulnerability,
    products: &Products<'_>,
    number: u32,
    out: &mut Builder,
    claims: &mut Claims,
) -> Result<()> {
    let status = &vulnerability.product_status;
    let mut shipped = HashMap::new();
    let mut reasons: HashMap<&str, &str> = HashMap::new();
    for remediation in &vulnerability.remediations {
        for id in &remediation.product_ids {
            if &*remediation.category == "vendor_fix" {
                let name = remediation
                    .url
                    .as_deref()
                    .and_then(|url| url.rsplit('/').next());
                shipped.extend(
                    name.filter(|name| !name.is_empty() && *name != document)
                        .map(|name| (&**id, name)),
                );
            } else if matches!(&*remediation.category, "no_fix_planned" | "none_available") {
                reasons.insert(id, &remediation.category);
            }
        }
    }
    let impacts = vulnerability
        .threats
        .iter()
        .filter(|threat| &*threat.category == "impact");
    for threat in impacts.filter(|threat| crate::Severity::of_word(&threat.details).is_none()) {
        reasons.extend(
            threat
                .product_ids
                .iter()
                .map(|id| (&**id, &*threat.details)),
        );
    }
    for flag in &vulnerability.flags {
        reasons.extend(flag.product_ids.iter().map(|id| (&**id, &*flag.label)));
    }
    for (list, ids) in [
        (List::Fixed, &status.fixed),
        (List::Fixed, &status.first_fixed),
        (List::Affected, &status.known_affected),
        (List::FirstAffected, &status.first_affected),
        (List::LastAffected, &status.last_affected),
        (List::NotAffected, &status.known_not_affected),
        (List::UnderInvestigation, &status.under_investigation),
    ] {
        for id in ids {
            if !products.known.contains_key(&**id) {
                return Err(Error::corrupt(format!(
                    "the key product_status names {id:?}, which is no product"
                )));
            }
            let Some(component) = products.component(id) else {
                out.elsewhere();
                continue;
            };
            let Some(mut claim) = list.claim(&component) else {
                if component.purl.family().is_none() {
                    out.elsewhere();
                }
                continue;
            };
            let note = reasons.get(&**id).copied().unwrap_or_default();
            if claim.status != Status::Affected || claim.fixed.is_empty() {
                note.clone_into(&mut claim.note);
            }
            if !claim.fixed.is_empty() {
                shipped
                    .get(&**id)
                    .copied()
                    .unwrap_or_default()
                    .clone_into(&mut claim.shipped_by);
            }
            let architecture = std::mem::take(&mut claim.architectures);
            let (architectures, advisories) = claims.entry(claim).or_default();
            if !architecture.is_empty() {
                architectures.insert(architecture);
            }
            if advisories.last() != Some(&number) {
                advisories.push(number);
            }
        }
    }
    Ok(())
}
