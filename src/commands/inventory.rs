//! `dormouse inventory`.

use dormouse_engine::Inspection;
use dormouse_evidence::{Bill, bill_format};
use dormouse_packages::{Inventory, Kind, Selection};
use serde::Serialize;

use super::inspect::{Look, inspections};
use super::target::{open_all, say_gaps};
use crate::answer::Answer;
use crate::cli::{Format, Inventory as Arguments};
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    schema: &'static str,
    inventories: Vec<&'a Inventory>,
    gaps: Vec<&'a dormouse_block::Gap>,
}

/// Lists the packages of restore points.
///
/// # Errors
/// Failures of the host.
pub(crate) fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<Exit> {
    let selection = Selection::parse(&arguments.catalogers)
        .map_err(|name| anyhow::anyhow!("{name:?} is no family of packages"))?;
    let mut opened = open_all(&arguments.images, settings)?;
    let probes = std::collections::BTreeSet::new();
    let mut all: Vec<Inspection> = Vec::new();
    for (machine, points) in &opened.machines {
        let look = Look::Packages(&selection, &probes);
        let (points, gaps) = inspections(machine, points, look)?;
        all.extend(points);
        opened.gaps.extend(gaps);
    }
    let inventories: Vec<&Inventory> = all
        .iter()
        .flat_map(|point| point.systems.iter().map(|system| &system.inventory))
        .collect();
    let gaps: Vec<_> = opened
        .gaps
        .iter()
        .chain(all.iter().flat_map(|point| &point.gaps))
        .collect();
    let answer = Answer::new(settings);
    let format = match settings.format() {
        Format::Cyclonedx => bill_format("cyclonedx"),
        Format::Spdx => bill_format("spdx"),
        _ => None,
    };
    if let Some(format) = format {
        let bill = Bill {
            inventories: &inventories,
            gaps: &gaps,
            as_of: settings.global.as_of,
            tool: ("dormouse", env!("CARGO_PKG_VERSION")),
        };
        answer.bytes(&format.render(&bill)?)?;
    } else if answer.is_table() {
        let mut rows = answer.table(&[
            "Machine",
            "Point",
            "Package",
            "Version",
            "Architecture",
            "Family",
            "State",
        ]);
        for inventory in &inventories {
            for package in &inventory.packages {
                rows.add([
                    inventory.at.machine.as_deref().unwrap_or_default(),
                    inventory.at.point.as_deref().unwrap_or_default(),
                    &package.name,
                    &package.version,
                    &package.architecture,
                    package.family.as_str(),
                    match package.kind {
                        Kind::Software => package.state.as_str(),
                        Kind::Key => "key",
                    },
                ]);
            }
        }
        answer.bytes(rows.text().as_bytes())?;
    } else {
        answer.json(&Document {
            schema: "dormouse/inventories/v1",
            inventories: inventories.clone(),
            gaps: gaps.clone(),
        })?;
    }
    let within = inventories.iter().flat_map(|inventory| &inventory.gaps);
    Ok(say_gaps(gaps.into_iter().chain(within), settings))
}
