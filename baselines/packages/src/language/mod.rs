//! Packages of languages, wherever in a guest they lie, and each language's version order.
//!
//! Python (`*.dist-info`, `*.egg-info`, virtual environments too), Node (`node_modules`), Ruby (`specifications`), Go
//! (build information in executables) and Rust (`cargo auditable`'s list in executables). Each walks over all of the guest's
//! folders, so they are asked for by name.
//!
//! Limits: 400,000 folders, 64 deep; links are not followed, since what they lead to is walked over too.

mod binaries;
mod cargo;
mod elf;
mod gem;
mod gem_version;
mod go;
mod npm;
mod owner;
mod pep440;
mod python;
mod semver;
mod walk;

pub(crate) use cargo::Crates;
pub(crate) use gem::Gems;
pub(crate) use gem_version::compare as compare_gem;
pub(crate) use go::Go;
pub(crate) use npm::Npm;
pub(crate) use owner::note_owners;
pub(crate) use pep440::compare as compare_python;
pub(crate) use python::Python;
pub(crate) use semver::compare as compare_semver;
