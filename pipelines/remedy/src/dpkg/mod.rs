//! What dpkg does when it unpacks and configures, done to a draft.
//!
//! A [`Session`] is one run of `dpkg --unpack --no-triggers --auto-deconfigure` and of `dpkg --configure --pending`
//! after it: it reads the database once, unpacks packages one after the other, configures them in the order that their
//! dependencies ask for, processes triggers, interprets the maintainer scripts on the way, and at its end writes the
//! database as dpkg would have written it. A package whose scripts before unpacking cannot be interpreted leaves no
//! trace; one whose `postinst` cannot stays `unpacked`, and one whose triggers cannot stays `triggers-pending`.
//!
//! Sources: Debian Policy 6 and 10, dpkg(1), deb-triggers(5), dpkg-divert(1), dpkg-statoverride(1), deb-conffiles(5); held
//! against the real dpkg by tests.

mod conffile;
mod configure;
mod database;
mod diversion;
mod extract;
mod files;
mod log;
mod package;
mod path_filter;
mod readiness;
mod relation;
mod replace;
mod run_script;
mod settle;
mod stat_override;
mod trigger;
mod triggering;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::Time;
use dormouse_overlay::{Attributes, Draft, Savepoint};
use dormouse_packages::dpkg::{Flag, State, Want};
use dormouse_scripts::{Deferral, Done, ScriptName, World};
use serde::{Deserialize, Serialize};

use crate::deb::Unpacked;
use diversion::Diversions;
use files::{Files, Name};
use log::Log;
use package::Package;
use path_filter::PathFilters;
use stat_override::{Accounts, StatOverrides};
use trigger::Interests;

pub use configure::{Configured, Configuring, Settled, Triggered};
use package::canonical_version;

/// How a session works.
#[derive(Debug, Clone)]
pub struct Options {
    /// The instant of every change.
    pub now: Time,
    /// Bounds on each maintainer script.
    pub limits: dormouse_scripts::Limits,
}

/// One call of one maintainer script and its verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ScriptRun {
    /// The package whose script it is.
    pub package: String,
    /// The version of the package that brought the script.
    pub version: String,
    /// Which script.
    pub script: ScriptName,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What became of it.
    pub verdict: ScriptVerdict,
}

/// What became of a maintainer script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    tag = "is",
    deny_unknown_fields
)]
pub enum ScriptVerdict {
    /// It was interpreted to its end.
    Interpreted {
        /// The commands it used, builtins of the shell left out.
        commands: BTreeSet<String>,
        /// Actions on services that a sleeping machine does not need.
        service_actions: Vec<String>,
        /// Compiled caches that it would have made, and that the machine makes anew when it misses them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        caches: Vec<String>,
        /// What it said.
        log: Vec<String>,
    },
    /// It was not, and nothing of it was applied.
    Deferred {
        /// Why.
        reason: Deferral,
    },
}

impl ScriptVerdict {
    fn of(done: &Done) -> Self {
        Self::Interpreted {
            commands: done.commands.clone(),
            service_actions: done.service_actions.clone(),
            caches: done.caches.clone(),
            log: done.log.clone(),
        }
    }
}

/// What became of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unpacking {
    /// It is unpacked.
    Done {
        /// The scripts that were interpreted, in order.
        scripts: Vec<ScriptRun>,
        /// Packages that it replaced altogether, so that they are no more.
        disappeared: Vec<String>,
    },
    /// One of its scripts was not interpreted; the draft is as it was before.
    Deferred {
        /// The scripts up to and with that one, in order.
        scripts: Vec<ScriptRun>,
    },
    /// dpkg itself would refuse it; the draft is as it was before.
    Refused {
        /// Why.
        why: String,
    },
}

/// Why unpacking one package ended early.
enum Stop {
    /// The guest or the host failed: the end of the session.
    Failed(Error),
    /// A script was not interpreted.
    Deferred,
    /// dpkg would refuse it.
    Refused(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What is known of a name while one package is unpacked.
#[derive(Debug, Clone, Default)]
struct NameState {
    /// The new version has it as a conffile that it ships.
    new_conffile: bool,
    /// The new version wants it removed.
    remove_on_upgrade: bool,
    /// The new version's archive has it.
    in_archive: bool,
    /// The old version had it as a conffile.
    old_conffile: bool,
    /// It was a conffile and is none any more.
    obsolete: bool,
    /// It takes this name away from other packages' lists.
    takes_over: bool,
    /// The administrator does not want it unpacked.
    filtered: bool,
    /// The conffile's digest as the database had it.
    old_hash: Option<String>,
    /// The new file's MD5.
    md5: Option<[u8; 16]>,
}

/// The work on one package.
struct Work<'a> {
    package: usize,
    deb: &'a Unpacked,
    names: HashMap<Name, NameState>,
    new_files: Vec<Name>,
    new_conffiles: Vec<Name>,
    /// All installed architectures of it have the new version once this is unpacked.
    in_sync: bool,
    scripts: Vec<ScriptRun>,
    /// Whether `replaces` was asked of another package: the answer.
    replaces: HashMap<usize, Replacing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replacing {
    /// The new package replaces files of the other one.
    Replaces,
    /// The other one replaces files of the new package.
    Replaced,
    /// Neither.
    No,
}

impl Work<'_> {
    fn state(&mut self, name: Name) -> &mut NameState {
        self.names.entry(name).or_default()
    }

    fn is(&self, name: Name, ask: impl FnOnce(&NameState) -> bool) -> bool {
        self.names.get(&name).is_some_and(ask)
    }
}

/// What to come back to.
#[derive(Clone, Copy)]
struct Before {
    draft: Savepoint,
    log: usize,
    packages: usize,
}

/// One run of dpkg over a draft.
pub struct Session<'d> {
    draft: &'d mut Draft,
    options: Options,
    packages: Vec<Package>,
    by_name: BTreeMap<String, Vec<usize>>,
    native: String,
    foreign: Vec<String>,
    dpkg_version: String,
    files: Files,
    /// The kinds of files in `info/` by package.
    info: HashMap<String, BTreeSet<String>>,
    diversions: Diversions,
    overrides: StatOverrides,
    filters: PathFilters,
    users: Accounts,
    groups: Accounts,
    interests: Interests,
    /// Activations from before this session that were noted in it.
    incorporated: bool,
    log: Log,
    world: Option<World>,
    /// Packages as they were when the work at hand began.
    saved: BTreeMap<usize, Package>,
    /// What this session unpacked, in order.
    unpacked: Vec<usize>,
    /// What was half-configured before this session.
    broken_before: BTreeSet<usize>,
    /// Packages whose triggers were activated, in order.
    triggered: Vec<usize>,
}

impl Session<'_> {
    /// The guest's own architecture.
    #[must_use]
    pub fn native(&self) -> &str {
        &self.native
    }

    /// Unpacks one package.
    ///
    /// # Errors
    /// What the guest's files and the package's control members say cannot be read or does not hold together. The draft
    /// is then not to be used any more.
    pub fn unpack(&mut self, deb: &Unpacked) -> Result<Unpacking> {
        let before = self.begin();
        let package = self.slot(deb);
        let mut work = Work {
            package,
            deb,
            names: HashMap::new(),
            new_files: Vec::new(),
            new_conffiles: Vec::new(),
            in_sync: self.gets_in_sync(package, deb.control.version()),
            scripts: Vec::new(),
            replaces: HashMap::new(),
        };
        let stop = match self.unpack_all(&mut work) {
            Ok(disappeared) => {
                self.unpacked.push(package);
                return Ok(Unpacking::Done {
                    scripts: work.scripts,
                    disappeared,
                });
            }
            Err(stop) => stop,
        };
        self.take_back(before)?;
        match stop {
            Stop::Failed(error) => Err(error),
            Stop::Deferred => Ok(Unpacking::Deferred {
                scripts: work.scripts,
            }),
            Stop::Refused(why) => Ok(Unpacking::Refused { why }),
        }
    }

    /// The state to come back to when the work on one package ends early.
    fn begin(&mut self) -> Before {
        self.saved.clear();
        Before {
            draft: self.draft.savepoint(),
            log: self.log.len(),
            packages: self.packages.len(),
        }
    }

    /// Takes back everything since [`Session::begin`].
    fn take_back(&mut self, before: Before) -> Result<()> {
        self.draft.go_back(before.draft);
        self.log.go_back(before.log);
        for (index, package) in std::mem::take(&mut self.saved) {
            if let Some(place) = self.packages.get_mut(index) {
                *place = package;
            }
        }
        let known = before.packages;
        self.packages.truncate(known);
        for indices in self.by_name.values_mut() {
            indices.retain(|index| *index < known);
        }
        self.by_name.retain(|_, indices| !indices.is_empty());
        self.triggered.retain(|index| *index < known);
        self.world = None;
        self.reload_rules()
    }

    /// The whole of dpkg's `process_archive`.
    fn unpack_all(&mut self, work: &mut Work<'_>) -> Result<Vec<String>, Stop> {
        let index = work.package;
        let control = &work.deb.control;
        let new_version = canonical_version(control.version());
        let new_name = format!("{}:{}", control.package(), control.architecture());
        if let Some(reason) = self.refusal(work) {
            return Err(Stop::Refused(reason));
        }
        let old = self.package(index).clone();
        let upgrade = old.status.state >= State::HalfInstalled;
        self.change(index).status.want = Want::Install;
        let mark = if upgrade || !old.version.is_empty() && old.status.state == State::ConfigFiles {
            old.version.clone()
        } else {
            "<none>".to_owned()
        };
        if upgrade {
            let line = format!("upgrade {} {mark} {new_version}", old.full_name());
            self.log.add(&line);
        } else {
            let line = format!("install {new_name} {mark} {new_version}");
            self.log.add(&line);
        }
        self.activate_for_processing(index)?;
        if let Some(member) = work.deb.member("triggers") {
            self.activate_directives(&trigger::directives(member)?, index)?;
        }
        self.read_new_conffiles(work)?;
        self.mark_old_conffiles(work)?;
        if matches!(
            old.status.state,
            State::HalfConfigured
                | State::TriggersAwaited
                | State::TriggersPending
                | State::Installed
        ) {
            self.change(index).status.flag = Flag::Reinstreq;
            self.change(index).set_state(State::HalfConfigured);
            self.note(index);
            self.run_old(work, index, ScriptName::Prerm, &["upgrade", &new_version])?;
            self.change(index).set_state(State::Unpacked);
            self.note(index);
        }
        self.deconfigure_others(work, &new_version)?;
        let package = self.change(index);
        package.status.flag = Flag::Reinstreq;
        if old.status.state == State::NotInstalled {
            package.version.clone_from(&new_version);
            package.same = control.multi_arch_same();
        }
        package.set_state(State::HalfInstalled);
        self.note(index);
        match old.status.state {
            State::NotInstalled => self.run_new(work, ScriptName::Preinst, &["install"])?,
            State::ConfigFiles => {
                self.run_new(
                    work,
                    ScriptName::Preinst,
                    &["install", &old.version, &new_version],
                )?;
            }
            _ => self.run_new(
                work,
                ScriptName::Preinst,
                &["upgrade", &old.version, &new_version],
            )?,
        }
        self.extract(work)?;
        if upgrade {
            self.note(index);
            self.run_old(work, index, ScriptName::Postrm, &["upgrade", &new_version])?;
        }
        self.remove_old_files(work)?;
        let disappearing = self.disappearing(work);
        for &other in &disappearing {
            let line = format!(
                "disappear {} {} <none>",
                self.package(other).full_name(),
                self.package(other).version
            );
            self.log.add(&line);
            self.activate_for_processing(other)?;
            let name = control.package().to_owned();
            self.run_old(
                work,
                other,
                ScriptName::Postrm,
                &["disappear", &name, &new_version],
            )?;
        }
        // From here on nothing but the guest's or the host's failure stops it.
        self.write_own_list(work)?;
        self.renew_interests(work, &old)?;
        self.write_info(work, &old)?;
        let conffiles = self.conffiles_of(work);
        let package = self.change(index);
        package.take_control(control)?;
        package.conffiles = conffiles;
        let mut names = Vec::new();
        for other in disappearing {
            names.push(self.package(other).name.clone());
            self.vanish(other)?;
        }
        self.take_from_other_lists(work)?;
        self.change(index).set_state(State::Unpacked);
        self.note(index);
        self.change(index).status.flag = Flag::Ok;
        self.note(index);
        Ok(names)
    }

    /// The place of the package that the file is for.
    fn slot(&mut self, deb: &Unpacked) -> usize {
        let control = &deb.control;
        let known = self
            .by_name
            .get(control.package())
            .cloned()
            .unwrap_or_default();
        let installed: Vec<usize> = known
            .iter()
            .copied()
            .filter(|at| self.package(*at).status.state > State::NotInstalled)
            .collect();
        // One instance that is not one of several takes whatever architecture comes.
        if let [only] = installed.as_slice()
            && !(self.package(*only).same && control.multi_arch_same())
        {
            return *only;
        }
        let same = known
            .iter()
            .copied()
            .find(|at| self.package(*at).architecture == control.architecture());
        if let Some(at) = same.or_else(|| known.first().copied().filter(|_| installed.is_empty())) {
            return at;
        }
        let at = self.packages.len();
        self.packages.push(Package::absent(control));
        self.by_name
            .entry(control.package().to_owned())
            .or_default()
            .push(at);
        at
    }

    fn gets_in_sync(&self, package: usize, version: &str) -> bool {
        let name = &self.package(package).name;
        self.by_name.get(name).into_iter().flatten().all(|&at| {
            let other = self.package(at);
            at == package
                || other.status.state <= State::ConfigFiles
                || dormouse_packages::dpkg::compare(&other.version, version).is_eq()
        })
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "indices are made from this list alone and it never shrinks below one in use"
    )]
    fn package(&self, index: usize) -> &Package {
        &self.packages[index]
    }

    /// The package, to be changed: its state before is kept, and its paragraph is written anew.
    #[expect(
        clippy::indexing_slicing,
        reason = "indices are made from this list alone and it never shrinks below one in use"
    )]
    fn change(&mut self, index: usize) -> &mut Package {
        let package = &mut self.packages[index];
        self.saved.entry(index).or_insert_with(|| package.clone());
        package.touch();
        package
    }

    fn plain(&self, mode: u16) -> Attributes {
        Attributes {
            mode,
            uid: 0,
            gid: 0,
            mtime: self.options.now,
            xattrs: BTreeMap::new(),
        }
    }
}

/// A path of ours.
pub(crate) fn fixed(path: &str) -> Result<GuestPath> {
    GuestPath::new(path).map_err(|error| Error::corrupt("a bad path").because(error))
}
