//! `dormouse inspect`.

use std::collections::BTreeSet;

use dormouse_engine::{Inspection, Machine, MemoryFact, OpenMachine, Power, PowerEvidence};
use dormouse_packages::{Probe, Selection};
use dormouse_remedy::WokenKernel;
use serde::Serialize;

use super::target::{open_all, say_gaps};
use crate::answer::Answer;
use crate::cli::Images;
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    schema: &'static str,
    machines: Vec<One>,
    gaps: Vec<dormouse_block::Gap>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct One {
    machine: Machine,
    points: Vec<Inspection>,
}

/// Says what images are.
///
/// # Errors
/// Failures of the host.
pub(crate) fn run(arguments: &Images, settings: &Settings) -> anyhow::Result<Exit> {
    let opened = open_all(&arguments.images, settings)?;
    let mut document = Document {
        schema: "dormouse/inspect/v1",
        machines: Vec::new(),
        gaps: opened.gaps,
    };
    for (machine, points) in &opened.machines {
        let (points, gaps) = inspections(machine, points, Look::Everything)?;
        document.gaps.extend(gaps);
        document.machines.push(One {
            machine: machine.fact(None),
            points,
        });
    }
    let answer = Answer::new(settings);
    if answer.is_table() {
        answer.text(&draw(&document))?;
    } else {
        answer.json(&document)?;
    }
    let all = document
        .machines
        .iter()
        .flat_map(|one| &one.points)
        .flat_map(|point| {
            let inventories = point
                .systems
                .iter()
                .flat_map(|system| &system.inventory.gaps);
            point.gaps.iter().chain(inventories)
        });
    Ok(say_gaps(document.gaps.iter().chain(all), settings))
}

/// What is looked at.
#[derive(Clone, Copy)]
pub(crate) enum Look<'a> {
    /// Packages of these families and the answers to these questions, and no saved memory.
    Packages(&'a Selection, &'a BTreeSet<Probe>),
    /// The usual packages, and the memory saved with a point.
    Everything,
}

/// Inspects these points; one that cannot be opened is a gap.
pub(crate) fn inspections(
    machine: &OpenMachine,
    points: &[String],
    look: Look<'_>,
) -> anyhow::Result<(Vec<Inspection>, Vec<dormouse_block::Gap>)> {
    let mut inspections = Vec::new();
    let mut gaps = Vec::new();
    for id in points {
        let seen = machine.open_point(id).and_then(|point| match look {
            Look::Packages(selection, probes) => Ok(point.inspect_of(selection, probes)),
            Look::Everything => point.inspect(&BTreeSet::new()),
        });
        match seen {
            Ok(inspection) => inspections.push(inspection),
            Err(error) if error.kind() == dormouse_block::ErrorKind::Cancelled => {
                return Err(error.into());
            }
            Err(error) => gaps.push(dormouse_block::Gap::from_error(
                &error,
                &dormouse_block::Locator::default(),
            )),
        }
    }
    Ok((inspections, gaps))
}

fn draw(document: &Document) -> String {
    let mut out = Vec::new();
    for one in &document.machines {
        let machine = &one.machine;
        out.push(format!(
            "{}  {}, {} as the guest sees it{}",
            machine.name,
            machine.format,
            bytes(machine.virtual_size),
            if machine.dirty {
                ", not closed by its last writer"
            } else {
                ""
            }
        ));
        if let Some(description) = &machine.description {
            out.push(format!(
                "  machine  {}, described by {}{}{}",
                description.name,
                description.kind,
                description
                    .firmware
                    .as_ref()
                    .map(|firmware| format!(", {firmware}"))
                    .unwrap_or_default(),
                description
                    .memory
                    .map(|memory| format!(", {} of memory", bytes(memory)))
                    .unwrap_or_default()
            ));
        }
        for disk in &machine.disks {
            out.push(format!(
                "  {:<8} {}{}  {}",
                disk.name,
                disk.slot.as_deref().unwrap_or_default(),
                if disk.devices.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", disk.devices.join(", "))
                },
                disk.path.as_deref().unwrap_or("not read")
            ));
        }
        for bitmap in &machine.bitmaps {
            out.push(format!(
                "  bitmap   {}, {} a bit{}{}",
                bitmap.name,
                bytes(bitmap.granularity),
                if bitmap.recording { ", recording" } else { "" },
                if bitmap.consistent {
                    ""
                } else {
                    ", left inconsistent"
                }
            ));
        }
        for file in &machine.files {
            out.push(format!(
                "  {:<8} {} ({}, {}{})",
                file.role,
                file.path,
                file.format,
                bytes(file.size),
                file.encryption
                    .as_ref()
                    .map(|how| format!(", encrypted with {how}"))
                    .unwrap_or_default()
            ));
        }
        for point in &machine.points {
            let memory = point
                .memory
                .map(|memory| format!(", {} of saved memory", bytes(memory)))
                .unwrap_or_default();
            out.push(format!(
                "  point    {} \"{}\"{memory}",
                point.id, point.name
            ));
        }
        for inspection in &one.points {
            out.push(format!(
                "  at {}: {}{}",
                inspection.point.name,
                inspection.power.as_str(),
                why(&inspection.power)
            ));
            for sign in &inspection.evidence {
                out.push(format!("    {}", evidence(sign)));
            }
            if let Some(memory) = &inspection.memory {
                out.extend(memory_lines(memory));
            }
            for volume in &inspection.volumes {
                let holds = match (&volume.filesystem, &volume.volume.content) {
                    (Some(filesystem), _) => format!(
                        "{}{}{}",
                        filesystem.kind,
                        filesystem
                            .label
                            .as_ref()
                            .map(|label| format!(" \"{label}\""))
                            .unwrap_or_default(),
                        if filesystem.journal_replayed {
                            ", journal replayed in memory"
                        } else {
                            ""
                        }
                    ),
                    (None, Some(content)) => content.kind.clone(),
                    (None, None) if volume.volume.blank => "blank".to_owned(),
                    (None, None) => "unknown".to_owned(),
                };
                let layout = volume.volume.layout.as_ref();
                let layout = layout
                    .map(|layout| format!(" ({layout})"))
                    .unwrap_or_default();
                let origin = volume.volume.snapshot_of.as_ref();
                let origin = origin
                    .map(|origin| format!(", a snapshot of {origin}"))
                    .unwrap_or_default();
                out.push(format!(
                    "    volume {} {}{layout} {holds}{origin}",
                    volume.volume.name,
                    bytes(volume.volume.size)
                ));
            }
            for system in &inspection.systems {
                let inventory = &system.inventory;
                let os = inventory
                    .os
                    .as_ref()
                    .and_then(|os| os.pretty_name.as_deref())
                    .unwrap_or("unknown system");
                let within = system
                    .subvolume
                    .as_ref()
                    .map(|path| format!(", in subvolume {path}"))
                    .unwrap_or_default();
                out.push(format!(
                    "    system {os}, {} packages{within}",
                    inventory.coverage.present
                ));
                if let Some(kernel) = &inventory.default_kernel {
                    out.push(format!("    kernel {} ({})", kernel.release, kernel.why));
                }
                for snapshot in &system.snapshots {
                    out.push(format!(
                        "      snapshot {} ({})",
                        snapshot.path,
                        if snapshot.read_only {
                            "read-only"
                        } else {
                            "writable"
                        }
                    ));
                }
            }
            for note in &inspection.notes {
                out.push(format!("    note   {note}"));
            }
        }
    }
    out.join("\n")
}

fn why(power: &Power) -> String {
    match power {
        Power::Cold => String::new(),
        Power::Crashed { volumes } if volumes.is_empty() => {
            " (a dump of its memory is all there is)".to_owned()
        }
        Power::Crashed { volumes } => format!(" (unreplayed journal on {})", volumes.join(", ")),
        other => other
            .forbids_editing()
            .map(|why| format!(" ({why})"))
            .unwrap_or_default(),
    }
}

/// A piece of evidence in one line.
fn evidence(sign: &PowerEvidence) -> String {
    let mut parts = Vec::new();
    if let Some(format) = &sign.format {
        let unverified = if sign.verified { "" } else { " (unverified)" };
        parts.push(format!("{format}{unverified}"));
    }
    if let (Some(magic), Some(offset)) = (&sign.magic, sign.offset) {
        parts.push(format!("{magic} at byte {offset}"));
    }
    parts.extend(sign.says.iter().cloned());
    format!("evidence {}: {}", sign.place, parts.join("; "))
}

/// What saved memory says.
fn memory_lines(memory: &MemoryFact) -> Vec<String> {
    let size = memory.blocks.iter().map(|block| block.size);
    let mut lines = vec![format!(
        "    memory {}, {} in {} blocks",
        memory.place,
        bytes(size.fold(0, u64::saturating_add)),
        memory.blocks.len()
    )];
    match &memory.kernel {
        Some(kernel) => {
            let build = kernel.build.as_deref().unwrap_or("build unknown");
            lines.push(format!(
                "      runs {} {} {build} ({})",
                kernel.system,
                kernel.release,
                kernel.why.join("; ")
            ));
        }
        None => lines.push("      runs a kernel that is not known".to_owned()),
    }
    lines.extend(memory.started.map(|started| {
        let why = memory.started_why.join("; ");
        format!("      started {started} ({why})")
    }));
    let restart = memory.woken.as_ref().and_then(WokenKernel::restart_reason);
    lines.extend(restart.map(|why| format!("      to be started anew: {why}")));
    lines
}

/// Bytes for people, in binary units.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
