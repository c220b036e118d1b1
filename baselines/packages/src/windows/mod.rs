//! Windows: its registry, and what is installed by what the registry says.
//!
//! Component packages (`SOFTWARE\...\Component Based Servicing\Packages`) with their states and the articles (`KB...`) of the
//! updates that they came with, hotfixes of Windows XP and Server 2003, and applications that can be uninstalled: of the machine's own
//! word size, of 32 bits, and of each user whose hive is there. Store applications are not read.

mod applications;
mod components;
mod config;
mod installation;
pub mod regf;
mod version;

pub(crate) use applications::Applications;
pub(crate) use components::Components;
pub(crate) use installation::identity;
pub use version::compare;
