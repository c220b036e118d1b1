//! in-toto Statements v1: what is claimed, and of what.
//!
//! Source: the in-toto attestation specification, `spec/v1/statement.md`.

use dormouse_block::{Digest, Error, Result};
use serde::{Deserialize, Serialize};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// An in-toto statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement {
    /// Always in-toto's Statement v1.
    #[serde(rename = "_type")]
    pub kind: String,
    /// What the statement is about; digests alone decide.
    pub subject: Vec<Subject>,
    /// What kind of claim it is.
    pub predicate_type: String,
    /// The claim.
    pub predicate: serde_json::Value,
}

/// One thing that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// `source:<path in the library>` for a host file that was read, `point:<machine>@<id>` for everything that the
    /// guest of a restore point sees on its disk, `memory:<machine>@<id>` for its saved memory, `output:<path in the
    /// results>` for what was written.
    pub name: String,
    /// Its digests.
    pub digest: SubjectDigest,
}

/// A subject's digests by algorithm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubjectDigest {
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// A subject that is not what the statement says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mismatch {
    /// The subject's name.
    pub subject: String,
    /// What is wrong with it.
    pub why: String,
}

impl Subject {
    /// A subject of this name and digest.
    pub fn new(name: impl Into<String>, digest: Digest) -> Self {
        Self {
            name: name.into(),
            digest: SubjectDigest {
                sha256: digest.hex(),
            },
        }
    }
}

impl Statement {
    /// A claim about these subjects.
    pub fn new(
        mut subject: Vec<Subject>,
        predicate_type: impl Into<String>,
        predicate: serde_json::Value,
    ) -> Self {
        subject.sort();
        subject.dedup();
        Self {
            kind: STATEMENT_TYPE.into(),
            subject,
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Self> {
        let statement: Self = serde_json::from_slice(payload)
            .map_err(|error| Error::corrupt("not an in-toto statement").because(error))?;
        if statement.kind != STATEMENT_TYPE {
            return Err(Error::unsupported(format!(
                "the statement is of type '{}', not Statement v1",
                statement.kind
            )));
        }
        if statement.subject.is_empty() {
            return Err(Error::corrupt("the statement is about nothing"));
        }
        Ok(statement)
    }
}
