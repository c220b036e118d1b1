//! Debian's package database, its relations and its version order.

mod conffile;
mod database;
mod record;
mod relation;
mod status;
mod version;

pub use conffile::Conffile;
pub use database::{ADMIN_DIRECTORY, Database, MAX_STATUS};
pub use record::{MultiArch, Record, source_of};
pub use relation::{Alternative, Constraint, Operator, Qualifier, Relation, RelationField};
pub use status::{Flag, State, Status, UnknownWord, Want};
pub use version::{Version, VersionError, compare};

pub(crate) use database::Dpkg;

/// Longest package name accepted, in bytes: a file `<name>:<architecture>.<suffix>` must fit into 255.
const MAX_NAME: usize = 200;

/// Whether dpkg takes `name` for a package's: it begins with a letter or digit and goes on with those, `+`, `-`, `.`
/// and `_`. (Policy 5.6.1 is stricter; dpkg reads this much.)
#[must_use]
pub fn is_package_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_'))
}
