//! `dormouse patch`.

use std::path::Path;

use anyhow::bail;
use dormouse_disk::{ACTIVE, LibraryGate};
use dormouse_engine::{
    Decision, Inject, MachineOptions, OutputFormat, PatchOptions, Patched, judge_image, patch_once,
};
use dormouse_policy::{Assessment, Verdict};
use dormouse_remedy::dpkg::Configuring;
use dormouse_remedy::{Decision as Remedy, FirstBootStep, FixOutcome};
use serde::Serialize;

use super::judge;
use super::plan::decide;
use super::target::{open_point, say};
use crate::answer::Answer;
use crate::cli::Patch;
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    schema: &'static str,
    image: String,
    bytes: u64,
    injection: &'a dormouse_remedy::Injection,
    verification: &'a dormouse_remedy::Verification,
    after: Vec<Assessment>,
}

/// Injects updates offline into a new image.
///
/// # Errors
/// A point that must not be changed, and whatever keeps the new image from being made; nothing is left under its name.
pub(crate) fn run(arguments: &Patch, settings: &Settings) -> anyhow::Result<Exit> {
    let settings = &settings.for_patching();
    let Some(target) = settings.global.output.clone() else {
        bail!("no name for the new image; give -o OUT");
    };
    if target.exists() {
        bail!(
            "{} is there already; the new image needs a name of its own",
            target.display()
        );
    }
    let standard = judge::standard(settings)?;
    let (machine, point) = open_point(&arguments.image, settings)?;
    let id = point.info.id.clone();
    if let Some(why) = point.power.forbids_editing() {
        bail!(
            "{} must not be changed: {why}; `dormouse catch-up` plans its waking instead",
            point.at
        );
    }
    drop(point);
    let disk = machine.root_disk(&id)?;
    let base = machine.format(&id, &disk)?;
    let output = match arguments.output_format {
        Some(wanted) => wanted,
        None if arguments.standalone => OutputFormat::Qcow2,
        None => OutputFormat::Overlay,
    };
    let output = output.over(base)?;
    if id != ACTIVE && !output.is_whole() {
        bail!(
            "a snapshot or a layer below others cannot carry an overlay; give --standalone, or another --output-format, for a \
             whole new image"
        );
    }
    let (decision, assessments) = decide_for_patch(&machine, &id, &standard)?;
    let plan = match decision {
        Decision::Inject { mut plan } => {
            plan.at_first_boot = arguments.at_first_boot;
            plan
        }
        other => {
            say(&format!(
                "{}@{id}: {other}; no image was written",
                machine.name
            ));
            return Ok(assessments
                .iter()
                .map(|assessment| judge::exit(assessment, settings))
                .max()
                .unwrap_or(Exit::Incomplete));
        }
    };
    let jobs = settings
        .global
        .jobs
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
        .unwrap_or(1);
    let patched = patch_once(
        &machine,
        &id,
        &plan,
        &PatchOptions {
            target: target.clone(),
            output,
            replace: false,
            now: standard.as_of,
        },
        &standard.repositories,
        jobs,
    )?;
    let folder = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    };
    let mut options: MachineOptions = settings.machine_options(&target)?;
    options.format = Some(output.format(base)?);
    options.gate = std::sync::Arc::new(LibraryGate::new(
        machine
            .files()
            .iter()
            .map(|file| folder(&file.path))
            .chain([folder(&target)]),
    )?);
    let after = judge_image(&standard, &machine, &id, &target, &options)?;
    let verdict = after.iter().map(|assessment| assessment.verdict).max();
    // The new image is what --output names; the answer goes to standard output.
    let mut settings = settings.clone();
    settings.global.output = None;
    let exit = after
        .iter()
        .map(|assessment| judge::exit(assessment, &settings))
        .max()
        .unwrap_or(Exit::Incomplete);
    let answer = Answer::new(&settings);
    if answer.is_table() {
        answer.text(&draw(&target, &patched, verdict))?;
    } else {
        answer.json(&Document {
            schema: "dormouse/patch/v1",
            image: target.display().to_string(),
            bytes: patched.bytes,
            injection: &patched.injection,
            verification: &patched.verification,
            after,
        })?;
    }
    Ok(exit)
}

fn decide_for_patch(
    machine: &dormouse_engine::OpenMachine,
    id: &str,
    standard: &dormouse_engine::Standard,
) -> anyhow::Result<(Decision, Vec<Assessment>)> {
    // Asked to patch a cold snapshot into a whole new image, the snapshot itself is not written.
    let inject = if id == ACTIVE {
        Inject::Active
    } else {
        Inject::Anything
    };
    decide(machine, id, standard, inject)
}

fn draw(target: &Path, patched: &Patched, verdict: Option<Verdict>) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let injection = &patched.injection;
    let fixed = match injection.fixes.len() {
        0 => String::new(),
        of => format!("{} of {of} fixes made, ", injection.fixed().count()),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{}: {} packages injected, {} of them configured, {fixed}{} paths changed and read back, {} bytes",
        target.display(),
        injection.injected().count(),
        injection.configured().count(),
        patched.verification.paths,
        patched.bytes
    );
    for package in &injection.packages {
        let (name, version) = (&package.name, &package.version);
        let _ = match (&package.decision, &package.configured) {
            (Remedy::Defer { why, .. }, _) => {
                writeln!(out, "  {name} {version} waits for the first boot: {why}")
            }
            (Remedy::Refuse { why }, _) => {
                writeln!(out, "  {name} {version} stays behind: {why}")
            }
            (Remedy::Inject, Some(Configuring::Left { why, .. })) => {
                writeln!(out, "  {name} is configured at the first boot: {why}")
            }
            (Remedy::Inject, _) => Ok(()),
        };
        for conffile in &package.kept {
            let _ = writeln!(
                out,
                "  {conffile} was changed on the machine and stays; the new one is {conffile}.dpkg-dist"
            );
        }
    }
    for triggered in &injection.triggers {
        if let Configuring::Left { why, .. } = &triggered.outcome {
            let _ = writeln!(
                out,
                "  triggers of {} are processed at the first boot: {why}",
                triggered.package
            );
        }
    }
    for fix in &injection.fixes {
        let id = &fix.id;
        let _ = match &fix.outcome {
            FixOutcome::Made => {
                let paths: Vec<String> = fix.paths.iter().map(|one| one.path.to_string()).collect();
                writeln!(out, "  fix {id} is made: {}", paths.join(" "))
            }
            FixOutcome::Unneeded => writeln!(out, "  fix {id} was made already"),
            FixOutcome::Refused { why } => writeln!(out, "  fix {id} stays behind: {why}"),
        };
        for note in &fix.notes {
            let _ = writeln!(out, "    {note}");
        }
    }
    for step in &injection.first_boot {
        if let FirstBootStep::Restart { why } = step {
            let _ = writeln!(out, "  to be started once more: {}", why.join("; "));
        }
    }
    if let Some(verdict) = verdict {
        let _ = writeln!(out, "  judged afresh: {verdict}");
    }
    out
}
