//! Configuring what is unpacked and processing triggers, as `dpkg --configure --pending` does.

use std::collections::{BTreeSet, HashMap};

use dormouse_block::{GuestPath, Result};
use dormouse_packages::dpkg::{Flag, State, Want};
use dormouse_scripts::{Deferral, ScriptName};
use serde::{Deserialize, Serialize};

use super::readiness::{Providers, Readiness};
use super::{ScriptRun, ScriptVerdict, Session, Stop};

/// Times that one package's triggers are processed in one session; dpkg, too, gives up on triggers in circles.
const MAX_ROUNDS: u32 = 8;

/// What became of the configuration of a package, or of its triggers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", deny_unknown_fields)]
pub enum Configuring {
    /// It is done.
    Done,
    /// It is left for the first boot, and nothing of it was done.
    Left {
        /// Why, in one clause.
        why: String,
        /// The script's own reason, where it was a script.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        script: Option<Deferral>,
    },
}

/// One package that was to be configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Configured {
    /// Its name.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// What became of it.
    pub outcome: Configuring,
    /// Its script, if it has one and its turn came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<ScriptRun>,
    /// Conffiles where the administrator's version stays and the new one is beside it as `.dpkg-dist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<GuestPath>,
}

/// One package whose triggers were to be processed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Triggered {
    /// Its name.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// The triggers that pended, in the order in which the script gets them.
    pub triggers: Vec<String>,
    /// What became of them.
    pub outcome: Configuring,
    /// Its script, if its turn came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<ScriptRun>,
}

/// What a session configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Packages, in the order of their turns.
    pub packages: Vec<Configured>,
    /// Triggers, likewise.
    pub triggers: Vec<Triggered>,
}

/// What is under way while packages are configured.
struct Course {
    waiting: Vec<usize>,
    providers: Providers,
    /// How often each package's triggers were processed.
    rounds: HashMap<usize, u32>,
    /// Packages whose triggers stay for the first boot.
    given_up: BTreeSet<usize>,
    settled: Settled,
}

impl Session<'_> {
    /// Configures what this session unpacked or deconfigured and what was unpacked before it, then processes triggers.
    /// A package whose script cannot be interpreted stays as it was, and so does what depends on it.
    ///
    /// # Errors
    /// What the guest's files say cannot be read or does not hold together. The draft is then not to be used any more.
    pub fn configure(&mut self) -> Result<Settled> {
        self.log.add("startup packages configure");
        let mut course = Course {
            waiting: self.to_configure(),
            providers: self.providers(),
            rounds: HashMap::new(),
            given_up: BTreeSet::new(),
            settled: Settled::default(),
        };
        while !course.waiting.is_empty() {
            if self.pass(&mut course)? || self.awaited_triggers(&mut course)? {
                continue;
            }
            let Some(at) = self.in_a_circle(&course) else {
                break;
            };
            self.turn(&mut course, at)?;
        }
        for at in std::mem::take(&mut course.waiting) {
            let why = "it waits for triggers that are left for the first boot".to_owned();
            self.leave(&mut course, at, why);
        }
        while let Some(at) = self.next_triggered(&course) {
            self.process_triggers(&mut course, at)?;
        }
        Ok(course.settled)
    }

    /// Packages that are not in their desired state, `name:architecture`, in their order by name.
    #[must_use]
    pub fn outstanding(&self) -> Vec<String> {
        let mut out: Vec<String> = self
            .packages
            .iter()
            .filter(|package| {
                matches!(
                    package.status.state,
                    State::HalfInstalled
                        | State::Unpacked
                        | State::HalfConfigured
                        | State::TriggersAwaited
                        | State::TriggersPending
                )
            })
            .map(super::package::Package::full_name)
            .collect();
        out.sort();
        out
    }

    /// In the order in which they were unpacked; what else is there comes after, by name.
    fn to_configure(&self) -> Vec<usize> {
        let mut out = self.unpacked.clone();
        for indices in self.by_name.values() {
            for &at in indices {
                let package = self.package(at);
                let due = match package.status.state {
                    State::Unpacked => true,
                    State::HalfConfigured => !self.broken_before.contains(&at),
                    _ => false,
                };
                if due && package.status.want == Want::Install && !out.contains(&at) {
                    out.push(at);
                }
            }
        }
        out.retain(|at| {
            matches!(
                self.package(*at).status.state,
                State::Unpacked | State::HalfConfigured
            )
        });
        out
    }

    /// Gives each package that waits for none other its turn; whether there was one.
    fn pass(&mut self, course: &mut Course) -> Result<bool> {
        let mut moved = false;
        for at in course.waiting.clone() {
            match self.readiness(at, &course.waiting, &course.providers) {
                Readiness::Ready => self.turn(course, at)?,
                Readiness::Cannot(why) => {
                    course.waiting.retain(|waiting| *waiting != at);
                    self.leave(course, at, why);
                }
                Readiness::Waits { .. } => continue,
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Processes triggers for which something waits that is waited for; whether there were any.
    fn awaited_triggers(&mut self, course: &mut Course) -> Result<bool> {
        let mut wanted = BTreeSet::new();
        for &at in &course.waiting {
            if let Readiness::Waits { triggers, .. } =
                self.readiness(at, &course.waiting, &course.providers)
            {
                wanted.extend(
                    triggers
                        .iter()
                        .flat_map(|&at| self.package(at).awaits.iter().copied()),
                );
            }
        }
        wanted.retain(|at| {
            !course.given_up.contains(at) && !self.package(*at).triggers_pending.is_empty()
        });
        for &at in &wanted {
            self.process_triggers(course, at)?;
        }
        Ok(!wanted.is_empty())
    }

    /// The package of a circle of dependencies that goes first: one without a script, as dpkg has it.
    fn in_a_circle(&self, course: &Course) -> Option<usize> {
        let mut path: Vec<usize> = Vec::new();
        let mut at = course.waiting.iter().copied().find(|&at| {
            matches!(
                self.readiness(at, &course.waiting, &course.providers),
                Readiness::Waits { packages, .. } if !packages.is_empty()
            )
        })?;
        while !path.contains(&at) {
            path.push(at);
            let Readiness::Waits { packages, .. } =
                self.readiness(at, &course.waiting, &course.providers)
            else {
                break;
            };
            at = packages.first().copied()?;
        }
        let from = path.iter().position(|known| *known == at)?;
        let circle = path.get(from..)?;
        let has_script = |at: &usize| {
            self.info
                .get(&self.package(*at).info_name())
                .is_some_and(|kinds| kinds.contains("postinst"))
        };
        circle
            .iter()
            .find(|at| !has_script(at))
            .or_else(|| circle.last())
            .copied()
    }

    fn leave(&self, course: &mut Course, at: usize, why: String) {
        let mut record = self.record_of(at);
        record.outcome = Configuring::Left { why, script: None };
        course.settled.packages.push(record);
    }

    fn record_of(&self, at: usize) -> Configured {
        let package = self.package(at);
        Configured {
            package: package.name.clone(),
            architecture: package.architecture.clone(),
            version: package.version.clone(),
            outcome: Configuring::Done,
            scripts: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// One package's turn.
    fn turn(&mut self, course: &mut Course, at: usize) -> Result<()> {
        course.waiting.retain(|waiting| *waiting != at);
        let mut record = self.record_of(at);
        let before = self.begin();
        match self.configure_one(at, &mut record) {
            Ok(()) => {}
            Err(stop) => {
                self.take_back(before)?;
                record.outcome = left(stop, &record.scripts)?;
                record.kept.clear();
            }
        }
        course.settled.packages.push(record);
        Ok(())
    }

    fn configure_one(&mut self, at: usize, record: &mut Configured) -> Result<(), Stop> {
        let package = self.package(at).clone();
        let line = format!(
            "configure {} {} <none>",
            package.full_name(),
            package.version
        );
        self.log.add(&line);
        self.activate_for_processing(at)?;
        if package.status.state == State::Unpacked {
            if !self.unpacked.contains(&at) {
                // A run says what it found, once.
                self.change(at).log_due = true;
                self.note(at);
            }
            for conffile in &package.conffiles {
                if conffile.obsolete {
                    continue;
                }
                let (hash, kept) = self.settle_conffile(at, &conffile.path, &conffile.hash)?;
                record.kept.extend(kept);
                let Some(hash) = hash else { continue };
                let lines = &mut self.change(at).conffiles;
                if let Some(line) = lines.iter_mut().find(|line| line.path == conffile.path) {
                    line.hash = hash;
                }
                self.note(at);
            }
            self.change(at).set_state(State::HalfConfigured);
        }
        self.note(at);
        self.postinst(
            at,
            &["configure", &package.config_version],
            &mut record.scripts,
        )
    }

    /// Runs the script and settles the status after it.
    fn postinst(
        &mut self,
        at: usize,
        arguments: &[&str],
        scripts: &mut Vec<ScriptRun>,
    ) -> Result<(), Stop> {
        let activated = self.run_installed(scripts, at, ScriptName::Postinst, arguments)?;
        let package = self.change(at);
        package.status.flag = Flag::Ok;
        package.triggers_pending.clear();
        package.config_version = package.version.clone();
        let next = if package.awaits.is_empty() {
            State::Installed
        } else {
            State::TriggersAwaited
        };
        package.set_state(next);
        self.note(at);
        self.take_activations(&activated);
        Ok(())
    }

    fn next_triggered(&self, course: &Course) -> Option<usize> {
        let pending = |at: usize| {
            !course.given_up.contains(&at) && !self.package(at).triggers_pending.is_empty()
        };
        self.triggered
            .iter()
            .copied()
            .find(|&at| pending(at))
            .or_else(|| {
                self.by_name
                    .values()
                    .flatten()
                    .copied()
                    .find(|&at| pending(at))
            })
    }

    fn process_triggers(&mut self, course: &mut Course, at: usize) -> Result<()> {
        self.triggered.retain(|known| *known != at);
        let package = self.package(at).clone();
        let mut record = Triggered {
            package: package.name.clone(),
            architecture: package.architecture.clone(),
            triggers: package.triggers_pending.clone(),
            outcome: Configuring::Done,
            scripts: Vec::new(),
        };
        let rounds = course.rounds.entry(at).or_default();
        *rounds = rounds.saturating_add(1);
        let hindrance = if *rounds > MAX_ROUNDS {
            Some("its triggers are activated in a circle".to_owned())
        } else if package.status.want == Want::Hold {
            None
        } else {
            match self.readiness(at, &[], &course.providers) {
                Readiness::Ready => None,
                Readiness::Cannot(why) => Some(why),
                Readiness::Waits { .. } => Some("it waits for other triggers".to_owned()),
            }
        };
        if let Some(why) = hindrance {
            record.outcome = Configuring::Left { why, script: None };
        } else {
            let before = self.begin();
            if let Err(stop) = self.process(at, &mut record) {
                self.take_back(before)?;
                record.outcome = left(stop, &record.scripts)?;
            }
        }
        if record.outcome != Configuring::Done {
            course.given_up.insert(at);
        }
        course.settled.triggers.push(record);
        Ok(())
    }

    fn process(&mut self, at: usize, record: &mut Triggered) -> Result<(), Stop> {
        let package = self.package(at);
        let line = format!(
            "trigproc {} {} <none>",
            package.full_name(),
            package.version
        );
        self.log.add(&line);
        let names = record.triggers.join(" ");
        self.change(at).set_state(State::HalfConfigured);
        self.note(at);
        self.postinst(at, &["triggered", &names], &mut record.scripts)
    }
}

/// What a stop means for the package at hand.
fn left(stop: Stop, scripts: &[ScriptRun]) -> Result<Configuring> {
    match stop {
        Stop::Failed(error) => Err(error),
        Stop::Refused(why) => Ok(Configuring::Left { why, script: None }),
        Stop::Deferred => {
            let reason = scripts.last().and_then(|run| match &run.verdict {
                ScriptVerdict::Deferred { reason } => Some(reason.clone()),
                ScriptVerdict::Interpreted { .. } => None,
            });
            let said = reason.as_ref().map(ToString::to_string).unwrap_or_default();
            Ok(Configuring::Left {
                why: format!("its postinst must run on the machine: {said}"),
                script: reason,
            })
        }
    }
}
