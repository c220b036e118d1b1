//! What a catch-up plan must know of a machine beside its packages.

use std::collections::BTreeSet;

use dormouse_block::Result;
use dormouse_disk::PointKind;
use dormouse_policy::{Assessment, KeepMemory};
use dormouse_remedy::{Circumstances, Manner, Sleep, Standing};

use crate::{Inspection, OpenMachine, OpenPoint, Power, Standard};

/// Findings that a step names; the rest are counted.
const NAMED: usize = 5;

/// How the machine sleeps, and what could be done to its disk.
///
/// # Errors
/// As opening its disks.
pub(crate) fn circumstances(
    machine: &OpenMachine,
    point: &OpenPoint,
    inspection: &Inspection,
    unwritable: Option<String>,
) -> Result<Circumstances> {
    let disks = machine.disks(&point.info.id)?;
    Ok(Circumstances {
        sleep: match &inspection.power {
            Power::Cold | Power::Crashed { .. } => Sleep::Cold,
            Power::Suspended { memory } => Sleep::Suspended { bytes: *memory },
            Power::Hibernated { volume } => Sleep::Hibernated {
                place: volume.clone(),
            },
            Power::Running { .. } => Sleep::Awake,
        },
        standing: match inspection.point.kind {
            PointKind::Active => Standing::Active,
            PointKind::InternalSnapshot | PointKind::Layer | PointKind::MachineSnapshot => {
                Standing::Older
            }
        },
        unwritable,
        disk_bytes: disks
            .iter()
            .fold(0, |sum: u64, (_, disk)| sum.saturating_add(disk.len())),
        image: machine.name.clone(),
        point: point.info.id.clone(),
    })
}

/// What is done beside installing packages, as the baseline wants it.
pub(crate) fn manner(standard: &Standard, assessments: &[Assessment]) -> Manner {
    let asking: BTreeSet<String> = assessments
        .iter()
        .filter(|assessment| assessment.wants_forensic_triage())
        .flat_map(Assessment::open_findings)
        .filter(|finding| finding.due.as_ref().is_some_and(|due| due.forensic_triage))
        .map(|finding| finding.package.clone())
        .collect();
    let more = asking.len().saturating_sub(NAMED);
    let mut triage: Vec<String> = asking
        .into_iter()
        .take(NAMED)
        .map(|package| format!("a finding of {package} asks for it"))
        .collect();
    if more > 0 {
        triage.push(format!("{more} more findings ask for it"));
    }
    let waking = standard.baseline.waking;
    Manner {
        keep_memory: match waking.keep_memory {
            KeepMemory::Always => true,
            KeepMemory::ForTriage => !triage.is_empty(),
            KeepMemory::Never => false,
        },
        isolate: waking.isolate_network,
        triage,
    }
}
