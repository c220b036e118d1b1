//! The evaluator: state of a shell, and how words and commands are evaluated in it.

mod arithmetic;
mod builtins;
mod execute;
mod expand;
mod fields;
mod glob;
pub(crate) mod pattern;
mod printf;
mod program;
mod redirect;
pub(crate) mod streams;
mod test;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use dormouse_block::GuestPath;
use dormouse_filesystem::Time;
use dormouse_overlay::Draft;

use crate::budget::Budget;
use crate::call::{Call, Deferral, Limits, Reason, Trigger};
use crate::files::Files;
use crate::stop::{Run, Stop};
use crate::syntax::{Command, Dialect};
use crate::world::World;

pub(crate) use program::Target;
use streams::{Fd, Stream};
use variables::Variables;

/// Bytes of a script's output that are kept as its log.
const MAX_LOG: usize = 64 << 10;

/// Options of `set`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) errexit: bool,
    pub(crate) nounset: bool,
    pub(crate) noglob: bool,
    pub(crate) noexec: bool,
    pub(crate) allexport: bool,
    pub(crate) noclobber: bool,
    pub(crate) xtrace: bool,
    pub(crate) verbose: bool,
    pub(crate) pipefail: bool,
}

/// What a subshell has a copy of.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) variables: Variables,
    pub(crate) functions: Rc<BTreeMap<Vec<u8>, Rc<Command>>>,
    pub(crate) positional: Rc<Vec<Vec<u8>>>,
    /// `$0`
    pub(crate) name: Vec<u8>,
    pub(crate) options: Options,
    pub(crate) streams: BTreeMap<u32, Fd>,
    /// What `trap` set for the shell's exit.
    pub(crate) exit_trap: Option<Vec<u8>>,
    /// `$?`
    pub(crate) status: i32,
    pub(crate) dialect: Dialect,
    /// Loops around the current command within the current function.
    pub(crate) loops: u32,
    pub(crate) in_function: u32,
    /// Sourced files and guest scripts around the current command.
    pub(crate) foreign: u32,
    /// How far `getopts` is within a clustered argument.
    pub(crate) getopts_offset: usize,
}

/// What an interpreted script leaves beside its changes.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) commands: BTreeSet<String>,
    pub(crate) service_actions: Vec<String>,
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) caches: Vec<String>,
    pub(crate) log: Vec<u8>,
}

pub(crate) struct Shell<'a> {
    pub(crate) files: Files<'a>,
    pub(crate) call: &'a Call<'a>,
    pub(crate) world: &'a World,
    pub(crate) environment: Environment,
    pub(crate) record: Record,
    /// Whether the status of the current command is tested, so that `set -e` does not apply.
    pub(crate) tested: bool,
    pub(crate) depth: u32,
    pub(crate) max_depth: u32,
    /// The line of the script that is being evaluated.
    pub(crate) line: u32,
    /// Status of the last command substitution within the current command.
    substituted: Option<i32>,
    /// Nesting of interpreted guest scripts.
    pub(crate) debconf: crate::commands::debconf::Session,
    /// Numbers given to temporary files so far.
    pub(crate) temporary: u32,
}

impl<'a> Shell<'a> {
    pub(crate) fn new(
        call: &'a Call<'a>,
        draft: &'a mut Draft,
        world: &'a World,
        limits: &Limits,
        dialect: Dialect,
    ) -> Self {
        let now: Time = call.now;
        let mut variables = Variables::default();
        let mut export = |name: &str, value: &str| {
            variables.set_exported(name.as_bytes(), value.as_bytes());
        };
        export(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        export("HOME", "/root");
        export("PWD", "/");
        export("DPKG_MAINTSCRIPT_NAME", call.name.as_str());
        export("DPKG_MAINTSCRIPT_PACKAGE", call.package);
        export("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1");
        export("DPKG_MAINTSCRIPT_ARCH", call.architecture);
        export("DPKG_MAINTSCRIPT_DEBUG", "0");
        export("DPKG_RUNNING_VERSION", call.dpkg_version);
        export("DPKG_ADMINDIR", "/var/lib/dpkg");
        export("DPKG_ROOT", "");
        export("DEBIAN_FRONTEND", "noninteractive");
        for (name, value) in &call.environment {
            export(name, value);
        }
        variables.set(b"IFS", b" \t\n");
        variables.set(b"OPTIND", b"1");
        variables.set(b"PPID", b"1");
        let log = streams::fd(Stream::Log);
        let streams = BTreeMap::from([
            (0, streams::fd(Stream::Terminal)),
            (1, log.clone()),
            (2, log),
        ]);
        Self {
            files: Files {
                draft,
                now,
                cwd: GuestPath::root(),
                umask: 0o022,
                budget: Budget::new(limits),
                user: None,
            },
            call,
            world,
            environment: Environment {
                variables,
                functions: Rc::default(),
                positional: Rc::default(),
                name: Vec::new(),
                options: Options::default(),
                streams,
                exit_trap: None,
                status: 0,
                dialect,
                loops: 0,
                in_function: 0,
                foreign: 0,
                getopts_offset: 0,
            },
            record: Record::default(),
            tested: false,
            depth: 0,
            max_depth: limits.depth,
            line: 0,
            substituted: None,
            debconf: crate::commands::debconf::Session::default(),
            temporary: 0,
        }
    }

    /// Gives the script up because of `command`.
    pub(crate) fn refuse<T>(
        &self,
        reason: Reason,
        command: &[u8],
        why: impl Into<String>,
    ) -> Run<T> {
        Err(Stop::Deferred(Box::new(Deferral {
            reason,
            why: why.into(),
            command: Some(String::from_utf8_lossy(command).into_owned()),
            line: None,
        })))
    }

    /// Gives the script up because `command` is not interpreted when it is called this way.
    pub(crate) fn usage<T>(&self, command: &[u8], why: impl Into<String>) -> Run<T> {
        self.refuse(Reason::Usage, command, why)
    }

    /// Notes an action on a service that a sleeping machine does not need.
    pub(crate) fn not_needed(&mut self, arguments: &[Vec<u8>]) {
        let words: Vec<_> = arguments
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect();
        if self.record.service_actions.len() < 1000 {
            self.record.service_actions.push(words.join(" "));
        }
    }

    /// Notes a cache that is left to be made.
    pub(crate) fn cache_left(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.record.caches.len() < 1000 && !self.record.caches.contains(&what) {
            self.record.caches.push(what);
        }
    }

    pub(crate) fn log(&mut self, bytes: &[u8]) {
        let room = MAX_LOG.saturating_sub(self.record.log.len());
        self.record
            .log
            .extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    /// One level deeper, for as long as `inner` runs.
    pub(crate) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Run<T>) -> Run<T> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > self.max_depth {
            return Err(Stop::defer(Reason::Limit, "commands nest too deep"));
        }
        let result = inner(self);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    /// Runs `inner` in a subshell and returns its status.
    pub(crate) fn subshell(&mut self, inner: impl FnOnce(&mut Self) -> Run<i32>) -> Run<i32> {
        let saved = self.environment.clone();
        let (cwd, umask, tested) = (self.files.cwd.clone(), self.files.umask, self.tested);
        self.environment.exit_trap = None;
        self.environment.loops = 0;
        let result = inner(self);
        let result = self.leave(result);
        self.environment = saved;
        (self.files.cwd, self.files.umask, self.tested) = (cwd, umask, tested);
        result
    }

    /// Applies the letters of an option such as `-ex`.
    pub(crate) fn set_flags(&mut self, letters: &[u8]) {
        builtins::set_flags(self, letters, true);
    }

    /// Ends a shell: its exit status, after the exit trap.
    pub(crate) fn leave(&mut self, result: Run<i32>) -> Run<i32> {
        let mut status = match result {
            Ok(status) | Err(Stop::Exit(status) | Stop::Return(status)) => status,
            Err(Stop::Break(_) | Stop::Continue(_)) => self.environment.status,
            Err(stop @ Stop::Deferred(_)) => return Err(stop),
        };
        if let Some(trap) = self.environment.exit_trap.take() {
            self.environment.status = status;
            self.tested = false;
            match self.evaluate(&trap) {
                Ok(_) | Err(Stop::Break(_) | Stop::Continue(_)) => {}
                Err(Stop::Exit(other) | Stop::Return(other)) => status = other,
                Err(stop @ Stop::Deferred(_)) => return Err(stop),
            }
        }
        Ok(status & 0xff)
    }
}
