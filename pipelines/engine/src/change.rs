//! Inject and verify: doing what was decided, and holding the result against the plan.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Digest, Error, HostFile, Meter, Result};
use dormouse_disk::{ACTIVE, LibraryGate};
use dormouse_policy::window::SlotFact;
use dormouse_policy::{Assessment, Verdict};
use dormouse_remedy::{CatchUp, Injection, Plan, Precedents, Verification};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{file_name, machine_path};
use crate::patch::{PatchOptions, patch};
use crate::payloads::Payloads;
use crate::run::{RunOptions, library_folder};
use crate::subjects::{file_digest, read_digest, remember_digest};
use crate::work::Work;
use crate::{Inspection, MachineOptions, OpenMachine, OutputFormat, Planner, Standard, host};

/// What is to be done to a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "decision", deny_unknown_fields)]
pub enum Decision {
    /// It is as the baseline wants it, or the baseline is not for it.
    Nothing {
        /// Why.
        why: String,
    },
    /// It is patched into a new image.
    Inject {
        /// What is injected.
        plan: Box<Plan>,
    },
    /// It must not be touched; its waking is planned.
    CatchUp {
        /// What must happen when it wakes.
        plan: Box<CatchUp>,
    },
    /// It is patched later: no change window is open, or others go first.
    Postponed {
        /// Why.
        why: String,
        /// When it may be, as far as that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// The next times in which it may be changed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        slots: Vec<SlotFact>,
        /// The first deadline of its findings.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
        /// Whether that is over before then.
        misses_deadline: bool,
    },
    /// Something is wrong with it that no package of the repositories mends, or it was not read whole.
    Cannot {
        /// Why.
        why: String,
    },
}

impl Decision {
    /// Changes when deciding changes.
    pub const VERSION: &'static str = "dormouse/decision/v2";
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { why } | Self::Cannot { why } => f.write_str(why),
            Self::Postponed { why, .. } => write!(f, "postponed: {why}"),
            Self::Inject { plan } => {
                write!(f, "{} packages to inject", plan.packages.len())?;
                match plan.fixes.len() {
                    0 => Ok(()),
                    1 => f.write_str(", 1 fix to make"),
                    fixes => write!(f, ", {fixes} fixes to make"),
                }
            }
            Self::CatchUp { plan } => {
                write!(f, "catch-up plan of {} packages", plan.bundle().len())
            }
        }
    }
}

/// What was done to a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Done {
    /// What.
    pub action: Action,
    /// The files written for it, by what they are.
    pub outputs: BTreeMap<String, OutputFile>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "action", try_from = "FlatAction")]
pub enum Action {
    /// Nothing, and why.
    Nothing {
        /// Why.
        why: String,
    },
    /// A patched image was written.
    Patched {
        /// What was injected.
        injection: Box<Injection>,
        /// That it is what was planned.
        verification: Box<Verification>,
    },
    /// A plan for its waking was written.
    CatchUp {
        /// Packages in it.
        packages: usize,
        /// Why it must not be touched.
        why: String,
    },
}

/// An action as it is written. An enum with its tag among its fields is read twice, and an injection has thousands of paths.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FlatAction {
    action: ActionName,
    why: Option<String>,
    injection: Option<Box<Injection>>,
    verification: Option<Box<Verification>>,
    packages: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ActionName {
    Nothing,
    Patched,
    CatchUp,
}

impl TryFrom<FlatAction> for Action {
    type Error = &'static str;

    fn try_from(flat: FlatAction) -> std::result::Result<Self, Self::Error> {
        match flat {
            FlatAction {
                action: ActionName::Nothing,
                why: Some(why),
                injection: None,
                verification: None,
                packages: None,
            } => Ok(Self::Nothing { why }),
            FlatAction {
                action: ActionName::Patched,
                why: None,
                injection: Some(injection),
                verification: Some(verification),
                packages: None,
            } => Ok(Self::Patched {
                injection,
                verification,
            }),
            FlatAction {
                action: ActionName::CatchUp,
                why: Some(why),
                injection: None,
                verification: None,
                packages: Some(packages),
            } => Ok(Self::CatchUp { packages, why }),
            _ => Err("an action with too few fields, or too many"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { why } => f.write_str(why),
            Self::Patched { injection, .. } => {
                let injected = injection.injected().count();
                let waiting = injection.packages.len().saturating_sub(injected);
                let configured = injection.configured().count();
                write!(
                    f,
                    "patched: {injected} packages injected, {configured} configured"
                )?;
                if waiting > 0 {
                    write!(f, ", {waiting} left to be installed at the first boot")?;
                }
                let fixed = injection.fixed().count();
                if !injection.fixes.is_empty() {
                    write!(f, ", {fixed} of {} fixes made", injection.fixes.len())?;
                }
                Ok(())
            }
            Self::CatchUp { packages, why } => {
                write!(f, "catch-up plan of {packages} packages: {why}")
            }
        }
    }
}

/// A file written for a restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OutputFile {
    /// Its path within the results.
    pub path: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: u64,
}

impl Done {
    /// Changes when what is done changes.
    pub const VERSION: &'static str = "dormouse/done/v1";

    /// Whether every file that was written still stands, by its size.
    #[must_use]
    pub fn stands(&self, output: &Path) -> bool {
        self.outputs.values().all(|file| {
            std::fs::metadata(output.join(&file.path)).is_ok_and(|found| found.len() == file.bytes)
        })
    }

    /// Whether a patched image was written.
    #[must_use]
    pub fn is_patched(&self) -> bool {
        matches!(self.action, Action::Patched { .. })
    }

    /// Whether a catch-up plan was written.
    #[must_use]
    pub fn is_catch_up(&self) -> bool {
        matches!(self.action, Action::CatchUp { .. })
    }

    fn nothing(why: &str) -> Self {
        Self {
            action: Action::Nothing {
                why: why.to_owned(),
            },
            outputs: BTreeMap::new(),
        }
    }
}

/// What became of what was done: a patched image opened again, and judged afresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Verified {
    /// How the patched image is judged; absent when nothing was patched.
    pub assessments: Vec<Assessment>,
    /// Whether every output has the digest that was recorded.
    pub outputs_match: bool,
}

impl Verified {
    /// Changes when verifying changes.
    pub const VERSION: &'static str = "dormouse/verified/v2";

    /// The verdict of the patched image.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.assessments
            .iter()
            .map(|assessment| assessment.verdict)
            .max()
    }

    /// Whether the patched image passes the gate.
    #[must_use]
    pub fn passes(&self) -> Option<bool> {
        let any = !self.assessments.is_empty();
        any.then(|| self.assessments.iter().all(|assessment| assessment.passes))
    }
}

/// Plans, patches and verifies within a run.
pub struct Changer<'a> {
    work: &'a Work<'a>,
    options: &'a RunOptions,
    planner: Planner<'a>,
    payloads: Payloads<'a>,
    precedents: Precedents,
}

impl<'a> Changer<'a> {
    /// A changer of one run.
    ///
    /// # Errors
    /// Results of an earlier run that was killed and cannot be cleared away.
    pub fn new(
        work: &'a Work<'a>,
        standard: &'a Standard,
        options: &'a RunOptions,
    ) -> Result<Self> {
        clear_partial(&options.output.join("images"))?;
        Ok(Self {
            work,
            options,
            planner: Planner {
                standard,
                inject: options.pipeline.inject,
            },
            payloads: Payloads::new(&standard.repositories, &work.state.store),
            precedents: Precedents::default(),
        })
    }

    /// As [`Planner::decide`].
    ///
    /// # Errors
    /// As [`Planner::decide`].
    pub fn decide(
        &self,
        machine: &OpenMachine,
        inspection: &Inspection,
        assessments: &[Assessment],
    ) -> Result<Decision> {
        self.planner.decide(machine, inspection, assessments)
    }

    /// Does what was decided.
    ///
    /// # Errors
    /// What keeps it from being done; nothing is left under a final name then.
    pub fn carry_out(
        &self,
        machine: &OpenMachine,
        point: &str,
        decision: &Decision,
    ) -> Result<Done> {
        match decision {
            Decision::Nothing { why } | Decision::Cannot { why } => Ok(Done::nothing(why)),
            Decision::Postponed { .. } => Ok(Done::nothing(&decision.to_string())),
            Decision::Inject { plan } => self.patch(machine, point, plan),
            Decision::CatchUp { plan } => self.write_catch_up(machine, point, plan),
        }
    }

    fn patch(&self, machine: &OpenMachine, point: &str, plan: &Plan) -> Result<Done> {
        // A machine of several disks keeps those that do not change.
        let disk = machine.root_disk(point)?;
        let stem = machine_path(&machine.name);
        let within = if machine.has_one_disk(point) {
            format!("images/{stem}.qcow2")
        } else {
            format!("images/{stem}.{disk}.qcow2")
        };
        let target = self.options.output.join(&within);
        if let Some(folder) = target.parent() {
            let fail = |error| Error::io("cannot make the folder", error).in_file(folder.display());
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let set = self.payloads.all(&plan.packages)?;
        let mut read = None;
        let patched = patch(
            machine,
            point,
            plan,
            &PatchOptions {
                target: target.clone(),
                output: OutputFormat::Overlay,
                replace: true,
                now: self.planner.standard.as_of,
            },
            &set,
            &self.precedents,
            &mut |image| {
                let image = HostFile::open(image)?;
                let digest = read_digest(self.work, &image)?;
                read = Some((image.identity().clone(), digest));
                Ok(())
            },
        )?;
        let image = HostFile::open(&target)?;
        // It got its name since, which is no change of its bytes.
        let (_, digest) = read
            .filter(|(identity, _)| identity.has_bytes_of(image.identity()))
            .ok_or_else(|| {
                Error::corrupt("the image is not the one that was written")
                    .in_file(target.display())
            })?;
        remember_digest(self.work, &image, digest)?;
        let mut outputs = BTreeMap::new();
        outputs.insert(
            "image".to_owned(),
            OutputFile {
                digest,
                path: within,
                bytes: patched.bytes,
            },
        );
        let mut decided = plan.clone();
        decided.decide(&patched.injection);
        self.write_json(
            &mut outputs,
            "plan",
            &format!("plans/{stem}.json"),
            &decided,
        )?;
        self.write_json(
            &mut outputs,
            "injection",
            &format!("injections/{stem}.json"),
            &patched.injection,
        )?;
        Ok(Done {
            action: Action::Patched {
                injection: Box::new(patched.injection),
                verification: Box::new(patched.verification),
            },
            outputs,
        })
    }

    fn write_catch_up(&self, machine: &OpenMachine, point: &str, plan: &CatchUp) -> Result<Done> {
        let stem = format!(
            "catch-up/{}/{}",
            machine_path(&machine.name),
            file_name(point)
        );
        let mut outputs = BTreeMap::new();
        self.write_json(&mut outputs, "plan", &format!("{stem}.json"), plan)?;
        self.write(
            &mut outputs,
            "script",
            &format!("{stem}.sh"),
            plan.script()?.as_bytes(),
        )?;
        Ok(Done {
            action: Action::CatchUp {
                packages: plan.bundle().len(),
                why: plan.untouchable.join("; "),
            },
            outputs,
        })
    }

    fn write_json(
        &self,
        outputs: &mut BTreeMap<String, OutputFile>,
        what: &str,
        path: &str,
        fact: &impl Serialize,
    ) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(fact)
            .map_err(|error| Error::corrupt("a plan cannot be written").because(error))?;
        bytes.push(b'\n');
        self.write(outputs, what, path, &bytes)
    }

    fn write(
        &self,
        outputs: &mut BTreeMap<String, OutputFile>,
        what: &str,
        path: &str,
        bytes: &[u8],
    ) -> Result<()> {
        host::publish(&self.options.output.join(path), bytes)?;
        outputs.insert(
            what.to_owned(),
            OutputFile {
                path: path.to_owned(),
                digest: Digest::of(bytes),
                bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            },
        );
        Ok(())
    }

    /// Opens what was written again, through the read path alone, and judges it afresh.
    ///
    /// # Errors
    /// An output that changed, and a patched image that cannot be read whole.
    pub fn verify(&self, machine: &OpenMachine, point: &str, done: &Done) -> Result<Verified> {
        for file in done.outputs.values() {
            let path = self.options.output.join(&file.path);
            if file_digest(self.work, &path)? != file.digest {
                return Err(Error::corrupt("it is not what was written").in_file(path.display()));
            }
        }
        let mut assessments = Vec::new();
        if let (Action::Patched { .. }, Some(image)) = (&done.action, done.outputs.get("image")) {
            let path = self.options.output.join(&image.path);
            assessments = judge_image(
                self.planner.standard,
                machine,
                point,
                &path,
                &self.allowed()?,
            )?;
        }
        Ok(Verified {
            assessments,
            outputs_match: true,
        })
    }

    fn allowed(&self) -> Result<MachineOptions> {
        let library = library_folder(&self.options.library);
        let pipeline = self
            .options
            .pipeline
            .allow_backing
            .iter()
            .map(|path| library.join(path));
        let folders: Vec<PathBuf> = [self.options.output.clone(), library.clone()]
            .into_iter()
            .chain(pipeline)
            .chain(self.options.allow_backing.iter().cloned())
            .collect();
        Ok(MachineOptions {
            format: None,
            gate: Arc::new(LibraryGate::new(folders)?),
            meter: Meter::new(u64::MAX, self.options.stop.clone()),
            keys: self.options.keys.clone(),
            units: self.work.units.clone(),
        })
    }
}

/// Judges `machine` as it is at `point`, with the patched image at `path` in the place of its disk.
///
/// # Errors
/// An image that cannot be opened.
pub fn judge_image(
    standard: &Standard,
    machine: &OpenMachine,
    point: &str,
    path: &Path,
    options: &MachineOptions,
) -> Result<Vec<Assessment>> {
    let disk = machine.root_disk(point)?;
    let machine = machine.with_disk(point, &disk, path, options)?;
    machine
        .open_point(ACTIVE)?
        .inspect(&standard.baseline.probes())
        .map(|inspection| standard.judge(&inspection))
}

/// Removes what a killed run left half-written.
fn clear_partial(images: &Path) -> Result<()> {
    let mut todo = vec![images.to_owned()];
    while let Some(folder) = todo.pop() {
        let fail =
            |error| Error::io("cannot clear away a partial image", error).in_file(folder.display());
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fail(error)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let path = entry.path();
            if entry.file_type().map_err(fail)?.is_dir() {
                todo.push(path);
            } else if path.to_string_lossy().ends_with(".qcow2.partial") {
                std::fs::remove_file(&path).map_err(fail)?;
            }
        }
    }
    Ok(())
}

/// The time of changes in a guest: that of the judgement, so that the same inputs give the same bytes.
pub(crate) fn guest_time(now: Timestamp) -> dormouse_filesystem::Time {
    dormouse_filesystem::Time {
        seconds: now.as_second(),
        nanoseconds: 0,
    }
}
