//! What the memory of a machine that sleeps says.

use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Gap, Locator, Result};
use dormouse_disk::SavedMemory;
use dormouse_packages::{KernelCandidate, RunningKernel};
use dormouse_remedy::WokenKernel;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::search::search;

/// Saved memory of a restore point.
#[derive(Clone)]
pub(crate) struct PointMemory {
    /// Where it is, as evidence gives it.
    pub(crate) place: String,
    pub(crate) state: Arc<SavedMemory>,
}

/// What the memory of a machine that sleeps says, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemoryFact {
    /// Where it is saved.
    pub place: String,
    /// In which format.
    pub format: String,
    /// The blocks of memory, as the hypervisor calls them, and their bytes.
    pub blocks: Vec<MemoryBlock>,
    /// The kernel that runs in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<RunningKernel>,
    /// When that set its clock by the machine's, seconds after it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// What says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub started_why: Vec<String>,
    /// Every kernel that it speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<KernelCandidate>,
    /// How that kernel stands to the one that the disk starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub woken: Option<WokenKernel>,
}

/// A block of memory, as a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemoryBlock {
    /// As the hypervisor calls it.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

impl PointMemory {
    /// Reads all of it, once, in a few buffers. What it does not say is a gap; none of them hides packages.
    ///
    /// # Errors
    /// `Io` and `Cancelled`.
    pub(crate) fn read(&self, at: &Locator) -> Result<(MemoryFact, Vec<Gap>)> {
        let mut gaps = Vec::new();
        let mut gap = |kind: ErrorKind, why: String| {
            gaps.push(Gap {
                at: at.clone(),
                kind,
                why: format!("{}: {why}", self.place),
                may_hide_packages: false,
            });
        };
        let (read, found) = search(&self.state);
        let mut fact = MemoryFact {
            place: self.place.clone(),
            format: self.state.evidence.format.clone(),
            blocks: Vec::new(),
            kernel: None,
            started: None,
            started_why: Vec::new(),
            candidates: found.candidates,
            woken: None,
        };
        match read {
            Ok(read) => {
                fact.blocks = read
                    .blocks
                    .into_iter()
                    .map(|block| MemoryBlock {
                        name: dormouse_block::escape_terminal(&block.name).into_owned(),
                        size: block.len,
                    })
                    .collect();
                match found.running {
                    Ok(kernel) => fact.kernel = Some(kernel),
                    Err(why) => gap(ErrorKind::Unsupported, why),
                }
                match found.started {
                    Ok(start) => {
                        fact.started = Some(start.at);
                        fact.started_why = start.why;
                    }
                    Err(why) => gap(ErrorKind::Unsupported, why),
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) => {
                return Err(error);
            }
            // Of half a memory, what speaks for one kernel may stand in the other half against it.
            Err(error) => gap(error.kind(), error.with_causes()),
        }
        gap(
            ErrorKind::Unsupported,
            "which processes still map deleted files is not looked for in memory".to_owned(),
        );
        Ok((fact, gaps))
    }
}

/// A saved state that could not be recognised.
pub(crate) fn unknown_state(place: &str, error: Option<&Error>) -> Gap {
    let why = match error {
        Some(error) => error.with_causes(),
        None => "it is no saved state of a known format".to_owned(),
    };
    Gap {
        at: Locator::default(),
        kind: error.map_or(ErrorKind::Unsupported, Error::kind),
        why: format!("{place}: {why}"),
        may_hide_packages: false,
    }
}
