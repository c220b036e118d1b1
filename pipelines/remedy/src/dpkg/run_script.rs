//! Maintainer scripts at their places in the work on a package.

use std::sync::Arc;

use dormouse_block::Result;
use dormouse_packages::dpkg::State;
use dormouse_scripts::{Call, Outcome, ScriptName, Trigger, World};

use super::database::{INFO, read};
use super::{ScriptRun, ScriptVerdict, Session, Stop, Work};

impl Session<'_> {
    /// Interprets a script of the version that is installed; what it activates is still to be noted.
    pub(super) fn run_installed(
        &mut self,
        scripts: &mut Vec<ScriptRun>,
        index: usize,
        name: ScriptName,
        arguments: &[&str],
    ) -> Result<Vec<Trigger>, Stop> {
        let Some(script) = self.installed_script(index, name)? else {
            return Ok(Vec::new());
        };
        let version = self.package(index).version.clone();
        self.interpret(scripts, index, name, &script, &version, arguments)
    }

    /// Interprets a script of the version that is installed while another is unpacked.
    pub(super) fn run_old(
        &mut self,
        work: &mut Work<'_>,
        index: usize,
        name: ScriptName,
        arguments: &[&str],
    ) -> Result<(), Stop> {
        let activated = self.run_installed(&mut work.scripts, index, name, arguments)?;
        self.take_activations(&activated);
        Ok(())
    }

    fn installed_script(&self, index: usize, name: ScriptName) -> Result<Option<Vec<u8>>> {
        let info = self.package(index).info_name();
        let has = self
            .info
            .get(&info)
            .is_some_and(|kinds| kinds.contains(name.as_str()));
        if !has {
            return Ok(None);
        }
        read(self.draft, &format!("{INFO}/{info}.{name}")).map(Some)
    }

    /// Interprets a script of the new version.
    pub(super) fn run_new(
        &mut self,
        work: &mut Work<'_>,
        name: ScriptName,
        arguments: &[&str],
    ) -> Result<(), Stop> {
        let Some(script) = work.deb.member(name.as_str()).map(Arc::clone) else {
            return Ok(());
        };
        let version = work.deb.control.version().to_owned();
        let index = work.package;
        let activated =
            self.interpret(&mut work.scripts, index, name, &script, &version, arguments)?;
        self.take_activations(&activated);
        Ok(())
    }

    fn interpret(
        &mut self,
        scripts: &mut Vec<ScriptRun>,
        index: usize,
        name: ScriptName,
        script: &[u8],
        version: &str,
        arguments: &[&str],
    ) -> Result<Vec<Trigger>, Stop> {
        let world = match self.world.take() {
            Some(world) => world,
            None => self.view_all(),
        };
        let package = self.package(index).clone();
        let instances = self
            .by_name
            .get(&package.name)
            .into_iter()
            .flatten()
            .filter(|at| self.package(**at).status.state > State::NotInstalled)
            .count();
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let call = Call {
            script,
            name,
            arguments: arguments.clone(),
            package: &package.name,
            architecture: &package.architecture,
            environment: vec![(
                "DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT".to_owned(),
                instances.max(1).to_string(),
            )],
            dpkg_version: &self.dpkg_version,
            now: self.options.now,
        };
        let outcome = dormouse_scripts::run(&call, self.draft, &world, &self.options.limits);
        let run = |verdict| ScriptRun {
            package: package.name.clone(),
            version: version.to_owned(),
            script: name,
            arguments,
            verdict,
        };
        match outcome {
            Outcome::Done(done) => {
                scripts.push(run(ScriptVerdict::of(&done)));
                self.world = Some(world);
                // Scripts divert files, override modes and add users.
                self.reload_rules()?;
                Ok(done.triggers)
            }
            Outcome::Deferred(reason) => {
                scripts.push(run(ScriptVerdict::Deferred { reason }));
                self.world = Some(world);
                Err(Stop::Deferred)
            }
        }
    }

    fn view_all(&self) -> World {
        let mut world = World {
            architecture: self.native.clone(),
            foreign_architectures: self.foreign.clone(),
            ..World::default()
        };
        for (name, indices) in &self.by_name {
            let views = indices.iter().map(|at| self.package(*at).view()).collect();
            world.packages.insert(name.clone(), views);
        }
        world
    }

    /// Brings what scripts see of a package up to date.
    pub(super) fn renew_view(&mut self, index: usize) {
        let Some(mut world) = self.world.take() else {
            return;
        };
        let name = self.package(index).name.clone();
        if let Some(indices) = self.by_name.get(&name) {
            let views = indices.iter().map(|at| self.package(*at).view()).collect();
            world.packages.insert(name, views);
        }
        self.world = Some(world);
    }
}
