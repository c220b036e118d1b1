//! Verified package repositories and vendor advisories, in one model.
//!
//! [`Repository`] reads a Debian archive from a local folder: the signature of each suite against a [`Keyring`], the
//! digests of its indices, and the digest of each payload before a byte of it is used. Nothing here opens the network.
//!
//! [`Advisories`] reads what vendors and users say of vulnerabilities, from feeds of every kind, into one model, and answers what
//! all of them say of an installed package of a system ([`Target`]).
//!
//! Limits: Release files of 64 MiB, indices of 2 GiB (as they lie there, and unpacked), 4,000,000 packages; feeds of
//! 4 GiB as they lie there, 4,000,000 statements each.
//!
//! ```no_run
//! use dormouse_advisories::{Keyring, Repository, Selection};
//!
//! # fn main() -> dormouse_block::Result<()> {
//! let keyring = Keyring::read("archive-keyring.gpg".as_ref())?;
//! let as_of = "2026-01-01T00:00:00Z".parse().expect("an instant");
//! let mirror = Repository::open("mirror".as_ref(), &keyring, &Selection::default(), as_of)?;
//! for package in mirror.candidates("openssl")? {
//!     let payload = mirror.open_payload(&package)?;
//!     println!("{} {} {}", package.version, payload.digest(), payload.size());
//! }
//! # Ok(())
//! # }
//! ```

mod catalogue;
mod codec;
mod compiled;
mod folder;
mod index;
mod judgement;
mod opening;
mod openpgp;
mod payload;
mod release;
mod repository;
mod severity;
mod statement;
mod suite;
mod target;
mod vendor;

pub use index::IndexedPackage;
pub use judgement::{Answer, Concern, Judgement};
pub use openpgp::{Keyring, Signer};
pub use payload::{PayloadReader, VerifiedPayload};
pub use release::Release;
pub use repository::{Access, IndexCache, IndexToKeep, ReadAhead, Repository, Selection, Trust};
pub use severity::Severity;
pub use statement::{Advisory, Exploitation, Known, Names, SOME_MODULE, Statement, Status};
pub use suite::{Index, Suite};
pub use target::Target;
pub use vendor::{Advisories, Feed, FeedAccess, FeedKind, FeedSignature};
