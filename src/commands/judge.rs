//! What `check`, `plan`, `patch` and `catch-up` share: the standard, and restore points judged by it.

use anyhow::bail;
use dormouse_engine::{Standard, StandardOptions, State};
use dormouse_policy::{Assessment, Verdict};

use super::target::say;
use crate::cli::FailOn;
use crate::exit::Exit;
use crate::settings::Settings;

/// The standard that the flags ask for.
///
/// # Errors
/// When no baseline is given, or it or a repository cannot be used.
pub(crate) fn standard(settings: &Settings) -> anyhow::Result<Standard> {
    let Some(baseline) = settings.global.baseline.clone() else {
        bail!(
            "no baseline to judge by; give -b NAME or -b FILE (`dormouse baseline` prints one to start from)"
        );
    };
    let state = known_state(settings);
    Ok(Standard::load(&StandardOptions {
        baseline,
        repositories: settings.global.repo.clone(),
        keyring: settings.global.keyring.clone(),
        only: settings.global.only.iter().cloned().collect(),
        feeds: settings.global.feed.clone(),
        // Without a place for the state every index is read anew.
        cache: settings.state().ok().map(|state| state.join("index")),
        estate: settings.global.estate.clone(),
        histories: state
            .as_ref()
            .and_then(|state| state.database.histories().ok())
            .unwrap_or_default(),
        taken: state
            .as_ref()
            .and_then(|state| state.database.taken().ok())
            .unwrap_or_default(),
        as_of: settings.as_of(),
    })?)
}

/// The state, where there is one already: when findings were first seen, and who took which updates.
fn known_state(settings: &Settings) -> Option<State> {
    let known = settings.state().ok()?;
    if !known.join("dormouse.db").is_file() {
        return None;
    }
    match State::open(&known) {
        Ok(state) => Some(state),
        Err(error) => {
            say(&format!(
                "judged without the state: {}",
                error.with_causes()
            ));
            None
        }
    }
}

/// What an assessment ends a command with: incomplete coverage outranks findings.
pub(crate) fn exit(assessment: &Assessment, settings: &Settings) -> Exit {
    if !assessment.coverage_complete || assessment.verdict == Verdict::Indeterminate {
        return Exit::Incomplete;
    }
    let fails = match settings.global.fail_on {
        Some(FailOn::Pending) => assessment.verdict >= Verdict::Pending,
        Some(FailOn::NonCompliant) => assessment.verdict >= Verdict::NonCompliant,
        None => !assessment.passes,
    };
    if fails { Exit::Findings } else { Exit::Done }
}
