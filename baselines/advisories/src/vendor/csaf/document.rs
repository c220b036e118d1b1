//! The parts of a document that are of use, as it has them (CSAF 2.0, section 3.2).

use jiff::Timestamp;
use serde::Deserialize;

/// A document.
#[derive(Deserialize)]
pub(super) struct Csaf {
    pub(super) document: Meta,
    #[serde(default)]
    pub(super) product_tree: Tree,
    #[serde(default)]
    pub(super) vulnerabilities: Vec<Vulnerability>,
}

/// What it says of itself.
#[derive(Deserialize)]
pub(super) struct Meta {
    pub(super) tracking: Tracking,
    #[serde(default)]
    pub(super) aggregate_severity: Option<Words>,
    #[serde(default)]
    pub(super) references: Vec<Reference>,
}

/// A vendor's words.
#[derive(Deserialize)]
pub(super) struct Words {
    pub(super) text: Box<str>,
}

/// Its name and dates.
#[derive(Deserialize)]
pub(super) struct Tracking {
    pub(super) id: String,
    pub(super) current_release_date: Timestamp,
    pub(super) initial_release_date: Timestamp,
}

/// Where more is said.
#[derive(Deserialize)]
pub(super) struct Reference {
    #[serde(default)]
    pub(super) url: String,
}

/// Its products.
#[derive(Default, Deserialize)]
pub(super) struct Tree {
    #[serde(default)]
    pub(super) branches: Vec<Branch>,
    #[serde(default)]
    pub(super) full_product_names: Vec<Product>,
    #[serde(default)]
    pub(super) relationships: Vec<Relationship>,
}

/// A branch of them.
#[derive(Deserialize)]
pub(super) struct Branch {
    #[serde(default)]
    pub(super) branches: Vec<Branch>,
    #[serde(default)]
    pub(super) product: Option<Product>,
}

/// A product, or a component of one.
#[derive(Deserialize)]
pub(super) struct Product {
    pub(super) product_id: Box<str>,
    #[serde(default)]
    pub(super) product_identification_helper: Helper,
}

/// By what names others know it.
#[derive(Default, Deserialize)]
pub(super) struct Helper {
    #[serde(default)]
    pub(super) cpe: Option<Box<str>>,
    #[serde(default)]
    pub(super) purl: Option<Box<str>>,
}

/// Which product has which component.
#[derive(Deserialize)]
pub(super) struct Relationship {
    pub(super) full_product_name: Product,
    pub(super) product_reference: Box<str>,
    pub(super) relates_to_product_reference: Box<str>,
}

/// What it says of one vulnerability.
#[derive(Deserialize)]
pub(super) struct Vulnerability {
    #[serde(default)]
    pub(super) cve: Option<String>,
    #[serde(default)]
    pub(super) ids: Vec<Id>,
    #[serde(default)]
    pub(super) release_date: Option<Timestamp>,
    #[serde(default)]
    pub(super) product_status: Statuses,
    #[serde(default)]
    pub(super) scores: Vec<Score>,
    #[serde(default)]
    pub(super) threats: Vec<Threat>,
    #[serde(default)]
    pub(super) flags: Vec<Flag>,
    #[serde(default)]
    pub(super) remediations: Vec<Remediation>,
}

/// Another name of it.
#[derive(Deserialize)]
pub(super) struct Id {
    pub(super) text: String,
}

/// Its products, by how it is with them.
#[derive(Default, Deserialize)]
pub(super) struct Statuses {
    #[serde(default)]
    pub(super) fixed: Vec<Box<str>>,
    #[serde(default)]
    pub(super) first_fixed: Vec<Box<str>>,
    #[serde(default)]
    pub(super) known_affected: Vec<Box<str>>,
    #[serde(default)]
    pub(super) first_affected: Vec<Box<str>>,
    #[serde(default)]
    pub(super) last_affected: Vec<Box<str>>,
    #[serde(default)]
    pub(super) known_not_affected: Vec<Box<str>>,
    #[serde(default)]
    pub(super) under_investigation: Vec<Box<str>>,
}

/// How bad it is.
#[derive(Deserialize)]
pub(super) struct Score {
    #[serde(default)]
    pub(super) cvss_v3: Option<Cvss>,
    #[serde(default)]
    pub(super) cvss_v2: Option<Cvss>,
}

/// A score of CVSS.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cvss {
    pub(super) vector_string: String,
    pub(super) base_score: f64,
}

/// What it can do.
#[derive(Deserialize)]
pub(super) struct Threat {
    pub(super) category: Box<str>,
    pub(super) details: Box<str>,
    #[serde(default)]
    pub(super) product_ids: Vec<Box<str>>,
}

/// Why a product is not affected.
#[derive(Deserialize)]
pub(super) struct Flag {
    pub(super) label: Box<str>,
    #[serde(default)]
    pub(super) product_ids: Vec<Box<str>>,
}

/// What helps.
#[derive(Deserialize)]
pub(super) struct Remediation {
    pub(super) category: Box<str>,
    #[serde(default)]
    pub(super) url: Option<Box<str>>,
    #[serde(default)]
    pub(super) product_ids: Vec<Box<str>>,
}
