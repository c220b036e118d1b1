//! `dormouse baseline`.

use anyhow::Context;
use dormouse_policy::{Baseline, SHIPPED, default_baseline};
use serde::Serialize;

use crate::answer::Answer;
use crate::cli::{self, BaselineAction};
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    schema: &'static str,
    baselines: Vec<One>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct One {
    name: &'static str,
    description: String,
    digest: Option<dormouse_block::Digest>,
}

/// Prints baselines: the commented one, one that is shipped, or the list of those.
///
/// # Errors
/// A name that is none of them.
pub(crate) fn run(arguments: &cli::Baseline, settings: &Settings) -> anyhow::Result<Exit> {
    let answer = Answer::new(settings);
    match &arguments.action {
        None => answer.text(default_baseline())?,
        Some(BaselineAction::Show { name }) => {
            let shipped = SHIPPED.iter().find(|(known, _)| known == name);
            let (_, text) = shipped.with_context(|| {
                format!(
                    "there is no shipped baseline {name:?}; `dormouse baseline list` lists them"
                )
            })?;
            answer.text(text)?;
        }
        Some(BaselineAction::List) => {
            let mut baselines = Vec::new();
            for (name, text) in SHIPPED {
                let baseline = Baseline::parse(text)?;
                baselines.push(One {
                    name,
                    digest: baseline.digest(),
                    description: baseline.description,
                });
            }
            if answer.is_table() {
                let mut table = answer.table(&["Baseline", "What it demands"]);
                for one in &baselines {
                    table.add([one.name, &one.description]);
                }
                answer.bytes(table.text().as_bytes())?;
            } else {
                answer.json(&Document {
                    schema: "dormouse/baselines/v1",
                    baselines,
                })?;
            }
        }
    }
    Ok(Exit::Done)
}
