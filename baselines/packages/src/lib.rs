//! Installed packages of a guest, and each package family's version order.
//!
//! [`take`] reads a guest's package databases into an [`Inventory`], a fact that says what is installed, in which
//! state, and what could not be read: dpkg's, [`rpm`]'s in every form, [`apk`]'s and [`pacman`]'s; the kernels, the one
//! that boots by default, and the repositories configured. [`dpkg`] reads Debian's own database in full, for those who must rewrite it;
//! [`deb822`] reads its paragraphs, and those of package indices. Nothing here sees a disk: files come through
//! [`dormouse_filesystem::Guest`].
//!
//! Limits: a status file of 256 MiB, 200,000 records, 16 MiB and 1,024 fields for each; headers of 64 MiB. Work is bounded
//! by the length of the files: no page of a database is read twice.
//!
//! ```
//! use dormouse_block::Locator;
//! use dormouse_filesystem::{Guest, MemoryTree};
//!
//! let mut tree = MemoryTree::new();
//! tree.file("/etc/os-release", b"ID=debian\nVERSION_ID=12\n").file(
//!     "/var/lib/dpkg/status",
//!     b"Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.10-3\n",
//! );
//! let inventory = dormouse_packages::take(&Guest::of(tree), &Locator::machine("web-01"));
//! let hello = inventory.present().next().expect("one package");
//! assert_eq!(hello.purl, "pkg:deb/debian/hello@2.10-3?arch=amd64&distro=debian-12");
//! assert!(inventory.coverage.complete);
//! ```

mod account;
pub mod apk;
mod cataloger;
pub mod deb822;
pub mod dpkg;
pub mod edit;
mod evr;
mod family;
mod flatpak;
mod glob;
mod guest_file;
mod inventory;
mod kernel;
mod language;
mod os;
mod package;
pub mod pacman;
mod probe;
mod purl;
mod repositories;
pub mod rpm;
mod snap;
mod sqlite;
mod state;
pub mod windows;

pub use account::{Account, Mode};
pub use cataloger::{CATALOGERS, Cataloger, Catalogue, Cost, Selection};
/// What a node is, as probes answer it: rows above know packages, and no filesystem.
pub use dormouse_filesystem::NodeKind;
pub use family::{Family, Reach};
pub use glob::Glob;
pub use inventory::{Coverage, FileRead, Inventory, take, take_of};
pub use kernel::batch::{MemoryBatch, MemoryBatches};
pub use kernel::memory::{KernelCandidate, KernelSearch, KernelText, MemoryKernels, RunningKernel};
pub use kernel::start::SystemStart;
pub use kernel::texts::MemoryTexts;
pub use kernel::{DefaultKernel, build_on_disk};
pub use os::OsRelease;
pub use package::{Kind, Package};
pub use probe::{
    FoundSetting, LineProbe, Observation, Observed, ObservedFile, Probe, SettingProbe, TouchedPath,
    TouchedState, observe, time_zone,
};
pub use purl::Purl;
pub use repositories::ConfiguredRepository;
pub use state::State;
