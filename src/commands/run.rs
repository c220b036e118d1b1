//! `dormouse run`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dormouse_engine::{Pipeline, RunOptions, SHIPPED_PIPELINES, StageName, State};
use dormouse_evidence::{RunReport, Signer};

use super::key::read_private;
use super::target::say;
use crate::answer::{Answer, count};
use crate::cli::{Format, Run};
use crate::exit::Exit;
use crate::progress::Progress;
use crate::settings::{Settings, now};

/// Takes a library through a pipeline.
///
/// # Errors
/// A pipeline, library or state that cannot be used.
pub(crate) fn run(arguments: &Run, settings: &Settings) -> anyhow::Result<Exit> {
    let pipeline = pipeline(&arguments.pipeline)?;
    let key = match &settings.global.key {
        Some(path) => Some(read_private(path)?),
        None if pipeline.runs(StageName::Attest) => bail!(
            "the pipeline signs evidence; give --key FILE (`dormouse key generate FILE` makes one)"
        ),
        None => None,
    };
    let output = settings
        .global
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from("dormouse-results"));
    let state = State::open(&settings.state()?)?;
    let options = RunOptions {
        pipeline,
        library: arguments.library.clone(),
        output,
        repositories: settings.global.repo.clone(),
        keyring: settings.global.keyring.clone(),
        baseline: settings.global.baseline.clone(),
        only: settings.global.only.iter().cloned().collect(),
        feeds: settings.global.feed.clone(),
        estate: settings.global.estate.clone(),
        allow_backing: settings.global.allow_backing.clone(),
        keys: settings.keys.clone(),
        as_of: settings.global.as_of,
        now: now(),
        jobs: settings.global.jobs,
        tool: concat!("dormouse ", env!("CARGO_PKG_VERSION")).to_owned(),
        stop: settings.stop.clone(),
    };
    let progress = Progress::new(settings.manner());
    let signer = key.as_ref().map(|key| key as &(dyn Signer + Sync));
    let outcome = dormouse_engine::run(&options, &state, signer, &progress);
    progress.finish();
    let outcome = outcome?;
    // The results folder is what --output names; the answer itself always goes to standard output.
    let mut settings = settings.clone();
    settings.global.output = None;
    let answer = Answer::new(&settings);
    if settings.format() == Format::Json {
        answer.json(&outcome.report)?;
    } else {
        answer.bytes(summary(&answer, &outcome.report).as_bytes())?;
    }
    if !settings.global.quiet {
        for path in outcome.files.values() {
            say(&format!("report: {}", path.display()));
        }
        if let Some(path) = &outcome.bundle {
            say(&format!("bundle: {}", path.display()));
        }
        if !outcome.complete {
            say(
                "incomplete: something that may hold packages was not read or judged; the gaps above say what",
            );
        }
    }
    Ok(match (outcome.complete, outcome.passes) {
        (false, _) => Exit::Incomplete,
        (true, false) => Exit::Findings,
        (true, true) => Exit::Done,
    })
}

fn pipeline(path: &Path) -> anyhow::Result<Pipeline> {
    let shipped = SHIPPED_PIPELINES
        .iter()
        .find(|(name, _)| Path::new(name) == path);
    if let Some((_, text)) = shipped.filter(|_| !path.exists()) {
        return Ok(Pipeline::parse(text)?);
    }
    let names: Vec<_> = SHIPPED_PIPELINES.iter().map(|(name, _)| *name).collect();
    Pipeline::read(path)
        .with_context(|| format!("a pipeline is a file, or one of {}", names.join(", ")))
}

/// A run's points as a table, its gaps below, and its totals as the last line.
pub(crate) fn summary(answer: &Answer<'_>, report: &RunReport) -> String {
    let mut table = answer.table(&[
        "Machine", "Point", "Power", "Packages", "Findings", "Verdict", "After", "Action",
    ]);
    let mut gaps = Vec::new();
    let at_library = report.gaps.iter();
    gaps.extend(at_library.map(|gap| format!("{}: {}", gap.at, gap.why)));
    for machine in &report.machines {
        gaps.extend(
            machine
                .gaps
                .iter()
                .map(|gap| format!("{}: {}", gap.at, gap.why)),
        );
        for point in &machine.points {
            table.add([
                machine.machine.as_str(),
                &point.name,
                &point.power,
                &point.packages.to_string(),
                &point.findings.len().to_string(),
                &point.verdict,
                point.after.as_deref().unwrap_or("-"),
                &point.action,
            ]);
            let hiding = point.gaps.iter().filter(|gap| gap.may_hide_packages);
            gaps.extend(hiding.map(|gap| format!("{}: {}", gap.at, gap.why)));
        }
    }
    let mut out = table.text();
    if !gaps.is_empty() {
        out.push_str("\nNot read or not judged:\n");
        for gap in gaps {
            out.push_str("  ");
            out.push_str(&dormouse_block::escape_terminal(&gap));
            out.push('\n');
        }
    }
    let totals = &report.totals;
    let verdicts: Vec<_> = totals
        .verdicts
        .iter()
        .map(|(verdict, count)| format!("{count} {verdict}"))
        .collect();
    out.push_str(&format!(
        "\n{}, {}: {}; {} patched, {}, {} (as of {})\n",
        count(totals.machines, "machine"),
        count(totals.points, "restore point"),
        verdicts.join(", "),
        totals.patched,
        count(totals.catch_up, "catch-up plan"),
        count(totals.gaps, "gap"),
        report.as_of
    ));
    out
}
