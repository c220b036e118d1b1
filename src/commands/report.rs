//! `dormouse report`.

use anyhow::Context;
use dormouse_engine::State;
use dormouse_evidence::{RunReport, report_format};

use crate::answer::Answer;
use crate::cli::{Format, Report};
use crate::exit::Exit;
use crate::settings::Settings;

/// Writes the report of a run again.
///
/// # Errors
/// When there is no such run.
pub(crate) fn run(arguments: &Report, settings: &Settings) -> anyhow::Result<Exit> {
    let state = State::open(&settings.state()?)?;
    let text = state
        .database
        .report(arguments.run.as_deref())?
        .with_context(|| match &arguments.run {
            Some(run) => format!("no finished run has the id {run}"),
            None => "no run has finished in this state folder; `dormouse run` makes one".to_owned(),
        })?;
    let report: RunReport = serde_json::from_str(&text)?;
    let answer = Answer::new(settings);
    match settings.format() {
        Format::Table => answer.bytes(super::run::summary(&answer, &report).as_bytes())?,
        format => {
            let name = if format == Format::Html {
                "html"
            } else {
                "json"
            };
            let format = report_format(name).context("no such report format")?;
            answer.bytes(&format.render(&report)?)?;
        }
    }
    Ok(Exit::Done)
}
