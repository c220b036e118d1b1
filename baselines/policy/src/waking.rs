//! How machines that must not be touched while they sleep are woken.

use serde::Deserialize;

/// What a catch-up does beside bringing packages up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Waking {
    /// Whether saved memory is kept as evidence before the machine is woken.
    pub keep_memory: KeepMemory,
    /// Whether the network stays away until all is done.
    pub isolate_network: bool,
}

impl Default for Waking {
    fn default() -> Self {
        Self {
            keep_memory: KeepMemory::default(),
            isolate_network: true,
        }
    }
}

/// When saved memory is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepMemory {
    /// Whenever there is any.
    #[default]
    Always,
    /// Where a finding asks for forensic triage.
    ForTriage,
    /// Never.
    Never,
}
