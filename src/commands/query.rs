//! `dormouse query`.

use std::collections::BTreeMap;

use dormouse_engine::State;
use serde::Serialize;

use crate::answer::Answer;
use crate::cli::Query;
use crate::exit::Exit;
use crate::settings::Settings;

/// Points of the newest finished run.
const NEWEST: &str = "(select run from runs where status = 'done' order by rowid desc limit 1)";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    schema: &'static str,
    rows: Vec<BTreeMap<String, String>>,
}

/// Asks the state.
///
/// # Errors
/// A bad query, or a state that cannot be used.
pub(crate) fn run(arguments: &Query, settings: &Settings) -> anyhow::Result<Exit> {
    let state = State::open(&settings.state()?)?;
    let (sql, parameter) = if let Some(name) = &arguments.package {
        (
            format!(
                "select machine, point, name, architecture, version, state from packages
                 where run = {NEWEST} and name = ?1 order by machine, point"
            ),
            Some(name),
        )
    } else if let Some(name) = &arguments.cve {
        (
            format!(
                "select machine, point, package, cve, advisory, installed, wanted, urgency, exploited, epss from cves
                 where run = {NEWEST} and cve = upper(?1) order by machine, point, package"
            ),
            Some(name),
        )
    } else if let Some(name) = &arguments.finding {
        (
            format!(
                "select machine, point, package, installed, wanted, why from findings
                 where run = {NEWEST} and package = ?1 order by machine, point"
            ),
            Some(name),
        )
    } else if let Some(verdict) = &arguments.verdict {
        (
            format!(
                "select machine, point, name, power, verdict, action from restore_points
                 where run = {NEWEST} and verdict = ?1 order by machine, point"
            ),
            Some(verdict),
        )
    } else {
        (arguments.sql.clone().unwrap_or_default(), None)
    };
    let parameters: Vec<&str> = parameter.into_iter().map(String::as_str).collect();
    let (columns, rows) = state.database.query(&sql, &parameters)?;
    let answer = Answer::new(settings);
    if answer.is_table() {
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut table = answer.table(&names);
        for row in &rows {
            table.add(row);
        }
        answer.bytes(table.text().as_bytes())?;
    } else {
        answer.json(&Document {
            schema: "dormouse/query/v1",
            rows: rows
                .into_iter()
                .map(|row| columns.iter().cloned().zip(row).collect())
                .collect(),
        })?;
    }
    Ok(Exit::Done)
}
