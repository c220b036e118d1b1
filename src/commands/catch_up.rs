//! `dormouse catch-up`.

use std::collections::BTreeMap;

use anyhow::bail;
use dormouse_block::{Error, ErrorKind};
use dormouse_engine::{
    BundleOptions, Decision, Inject, WrittenBundle, host, plan_name, write_bundle,
};
use dormouse_remedy::CatchUp;

use super::judge;
use super::key::read_private;
use super::plan::decide;
use super::target::{open_all, say, say_gaps};
use crate::answer::{Answer, count};
use crate::cli::{CatchUp as Arguments, Format};
use crate::exit::Exit;
use crate::settings::Settings;

/// Plans the waking of restored or resumed machines.
///
/// Of one machine the plan is the answer, as a page, a fact, a script, user data or a playbook; with `--output FILE` the
/// script goes there and the plan to FILE.json. With `--bundle` the plans of all go into one bundle, whose manifest is
/// the answer.
///
/// # Errors
/// What keeps them from being planned, and a bundle that cannot be written.
pub(crate) fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<Exit> {
    let key = match (&arguments.bundle, &settings.global.key) {
        (None, _) => None,
        (Some(_), Some(key)) => Some(read_private(key)?),
        (Some(_), None) => {
            bail!("a bundle is signed; give --key FILE (`dormouse key generate FILE` makes one)")
        }
    };
    if let Some(target) = &arguments.bundle
        && target.symlink_metadata().is_ok()
    {
        bail!(
            "{} is there already; the bundle needs a name of its own",
            target.display()
        );
    }
    let standard = judge::standard(settings)?;
    let opened = open_all(&arguments.images, settings)?;
    let mut plans: BTreeMap<String, CatchUp> = BTreeMap::new();
    let mut exit = say_gaps(&opened.gaps, settings);
    let alone = opened
        .machines
        .iter()
        .map(|(_, points)| points.len())
        .sum::<usize>()
        == 1;
    for (machine, points) in &opened.machines {
        for id in points {
            let (decision, assessments) = match decide(machine, id, &standard, Inject::Never) {
                Ok(decided) => decided,
                Err(error) if alone => return Err(error),
                // One of several that cannot be planned for does not keep the others from it.
                Err(error) => {
                    let error = error.downcast::<Error>()?;
                    if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) {
                        return Err(error.into());
                    }
                    say(&format!("{}@{id}: {}", machine.name, error.with_causes()));
                    exit = exit.max(Exit::Incomplete);
                    continue;
                }
            };
            if let Decision::CatchUp { plan } = decision {
                plans.insert(plan_name(&plan), *plan);
                exit = exit.max(Exit::Findings);
                continue;
            }
            say(&format!("{}@{id}: {decision}", machine.name));
            let judged = assessments
                .iter()
                .map(|assessment| judge::exit(assessment, settings));
            exit = exit.max(judged.max().unwrap_or(Exit::Incomplete));
        }
    }
    if plans.is_empty() {
        return Ok(exit);
    }
    if let (Some(target), Some(key)) = (&arguments.bundle, &key) {
        let options = BundleOptions {
            repositories: &standard.repositories,
            signer: key,
            tool: concat!("dormouse ", env!("CARGO_PKG_VERSION")),
            replace: false,
        };
        let written = write_bundle(&plans, target, &options)?;
        say(&format!(
            "{}: {}, {}, {}; attach it to the machine, mount it, and run `sh catch-up.sh` as root",
            target.display(),
            count(written.bundle.plans.len(), "plan"),
            count(written.bundle.packages.len(), "package file"),
            count(written.bytes, "byte")
        ));
        if plans.len() > 1 || settings.global.output.is_none() {
            answer_bundle(&written, settings)?;
            return Ok(exit);
        }
    }
    let mut plans = plans.into_values();
    let (Some(plan), None) = (plans.next(), plans.next()) else {
        bail!(
            "several restore points are to catch up; give --bundle FILE.iso or --bundle DIR for all of their plans"
        );
    };
    answer_plan(&plan, settings)?;
    Ok(exit)
}

fn answer_bundle(written: &WrittenBundle, settings: &Settings) -> anyhow::Result<()> {
    let answer = Answer::new(settings);
    if !answer.is_table() {
        return answer.json(&written.bundle);
    }
    let mut table = answer.table(&["Plan", "Packages", "Machine id"]);
    for plan in &written.bundle.plans {
        table.add([
            plan.name.clone(),
            plan.packages.len().to_string(),
            plan.machine_id.clone().unwrap_or_default(),
        ]);
    }
    answer.bytes(table.text().as_bytes())
}

fn answer_plan(plan: &CatchUp, settings: &Settings) -> anyhow::Result<()> {
    let answer = Answer::new(settings);
    let name = plan_name(plan);
    match settings.format() {
        Format::CloudInit => answer.bytes(plan.cloud_init(&name)?.as_bytes()),
        Format::Ansible => answer.bytes(plan.ansible(&name)?.as_bytes()),
        Format::Script => answer.bytes(plan.script()?.as_bytes()),
        format => {
            if let Some(path) = &settings.global.output {
                let mut beside = path.as_os_str().to_owned();
                beside.push(".json");
                let mut text = serde_json::to_vec_pretty(plan)?;
                text.push(b'\n');
                host::publish(beside.as_ref(), &text)?;
                return Ok(host::publish(path, plan.script()?.as_bytes())?);
            }
            match format {
                Format::Table => answer.text(&plan.page()),
                _ => answer.json(plan),
            }
        }
    }
}
