//! How bad a vulnerability is, on the one scale that every vendor's words are brought to.

use serde::{Deserialize, Serialize};

/// How bad, from the least.
///
/// CVSS' qualitative scale (FIRST, CVSS v3.1, section 5). A vendor's own word is kept beside it, never replaced by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// No effect: a base score of 0.
    None,
    /// 0.1 to 3.9.
    Low,
    /// 4.0 to 6.9.
    Medium,
    /// 7.0 to 8.9.
    High,
    /// 9.0 to 10.
    Critical,
}
