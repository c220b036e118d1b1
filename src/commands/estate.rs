//! `dormouse estate`.

use std::collections::BTreeMap;

use anyhow::Context;
use dormouse_policy::window::{SlotFact, ZoneSource};
use dormouse_policy::{Estate, example_estate};
use serde::Serialize;

use crate::answer::Answer;
use crate::cli::{self, EstateAction};
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    schema: &'static str,
    as_of: jiff::Timestamp,
    machines: Vec<One>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct One {
    machine: String,
    labels: BTreeMap<String, String>,
    time_zone: Option<String>,
    time_zone_by: ZoneSource,
    /// Whether it may be changed now.
    open: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    slots: Vec<SlotFact>,
}

/// Prints the commented estate, or what the given one says of machines.
///
/// # Errors
/// An estate that cannot be read, or none.
pub(crate) fn run(arguments: &cli::Estate, settings: &Settings) -> anyhow::Result<Exit> {
    let answer = Answer::new(settings);
    let Some(EstateAction::Show { machines, slots }) = &arguments.action else {
        answer.text(example_estate())?;
        return Ok(Exit::Done);
    };
    let path = settings.global.estate.as_deref();
    let path =
        path.context("no estate to read; give --estate FILE (`dormouse estate` prints one)")?;
    let estate = Estate::read(path)?;
    let as_of = settings.as_of();
    let machines: Vec<One> = machines
        .iter()
        .map(|machine| {
            let labels = estate.labels(machine);
            let zone = estate.zone(&labels, None);
            let calendar = estate.calendar(machine, None);
            let open = calendar.open_at(as_of);
            One {
                machine: machine.clone(),
                labels,
                time_zone: zone.zone.iana_name().map(str::to_owned),
                time_zone_by: zone.source,
                open: open.is_ok(),
                why: open.err(),
                slots: calendar.facts(&calendar.next(as_of, usize::from(*slots))),
            }
        })
        .collect();
    if !answer.is_table() {
        answer.json(&Document {
            schema: "dormouse/estate-machines/v1",
            as_of,
            machines,
        })?;
        return Ok(Exit::Done);
    }
    let mut table = answer.table(&["Machine", "Labels", "Open", "Next times"]);
    for one in &machines {
        let labels: Vec<_> = one
            .labels
            .iter()
            .map(|(label, value)| format!("{label}={value}"))
            .collect();
        let slots: Vec<_> = one
            .slots
            .iter()
            .map(|slot| format!("{} to {} ({})", slot.from, slot.until, slot.window))
            .collect();
        let free = if one.open && slots.is_empty() {
            "at any time"
        } else {
            "-"
        };
        table.add([
            one.machine.as_str(),
            &labels.join(" "),
            if one.open {
                "yes"
            } else {
                one.why.as_deref().unwrap_or("no")
            },
            if slots.is_empty() { free } else { "" },
        ]);
        for slot in &slots {
            table.add(["", "", "", slot]);
        }
    }
    answer.bytes(table.text().as_bytes())?;
    Ok(Exit::Done)
}
