//! A bounded POSIX shell interpreter over a guest's tree, for maintainer scripts.
//!
//! [`run`] interprets one [`Call`] of one maintainer script against a [`dormouse_overlay::Draft`]. Nothing of the guest is
//! executed: the shell language is evaluated here, and the commands that scripts call are implemented here as functions
//! over the draft. A script that calls anything else, asks for the state of a running system, or fails, is
//! [`Outcome::Deferred`], and the draft is as it was before.
//!
//! What a script sees is what it would see under dpkg in a chroot of the sleeping guest: no service manager is running,
//! no process is there, nobody answers at the terminal, and standard input, `/proc`, `/sys` and `/dev` cannot be read.
//!
//! What a script makes that is not its own text falls into four classes:
//!
//! - **State** is made as the guest's own program makes it: accounts, alternatives, diversions, units, debconf's database,
//!   the linker's cache `/etc/ld.so.cache` and its links, certificates' links, capabilities of files.
//! - **Caches** that their readers check, do without and make anew are left and named in [`Done::caches`]: Python's
//!   compiled modules (Python compares time and size), the index of manual pages (a timer makes it daily), fontconfig's
//!   (compared with each folder's time), ldconfig's auxiliary one. Removing them is interpreted, so that none outlives its
//!   package. A cache whose reader believes it blindly (GTK's icons, GLib's schemas, udev's hardware database) defers the
//!   script.
//! - **Actions on what runs** (services, udev, kernel settings, AppArmor's profiles) are not needed by a machine that
//!   sleeps, for it takes them up when it starts; they stand in [`Done::service_actions`].
//! - **What boots** (initramfs, the kernel's module index, boot menus), keys and other chance, and programs of packages
//!   that are not known here defer the script by name.
//!
//! ```
//! use std::sync::Arc;
//! use dormouse_block::{Error, GuestPath};
//! use dormouse_filesystem::{Guest, MemoryTree, Time};
//! use dormouse_overlay::Draft;
//! use dormouse_scripts::{Call, Limits, Outcome, ScriptName, World, run};
//!
//! let mut tree = MemoryTree::new();
//! tree.file("/etc/old.conf", b"a=1\n");
//! let mut draft = Draft::new(
//!     Arc::new(Guest::of(tree)),
//!     Arc::new(|_, _, _| Err(Error::corrupt("no payloads here"))),
//! );
//! let call = Call {
//!     script: b"#!/bin/sh\nset -e\nif [ -f /etc/old.conf ]; then echo b=2 >> /etc/old.conf; fi\n",
//!     name: ScriptName::Preinst,
//!     arguments: vec!["upgrade".into(), "1.0-1".into(), "1.0-2".into()],
//!     package: "example",
//!     architecture: "all",
//!     environment: Vec::new(),
//!     dpkg_version: "1.21.22",
//!     now: Time::default(),
//! };
//! let outcome = run(&call, &mut draft, &World::default(), &Limits::default());
//! assert!(matches!(outcome, Outcome::Done(_)));
//! let path = GuestPath::new("/etc/old.conf").expect("a plain path");
//! assert_eq!(draft.read(&path, 99).expect("readable").as_deref(), Some(&b"a=1\nb=2\n"[..]));
//! ```

mod budget;
mod call;
mod commands;
mod files;
mod read_texts;
mod regex;
mod shell;
mod stop;
mod syntax;
mod version;
mod world;

pub use call::{Call, Deferral, Done, Limits, Outcome, Reason, ScriptName, Trigger};
pub use read_texts::ReadTexts;
pub use world::{ConffileView, PackageView, World};

use dormouse_overlay::Draft;
use std::rc::Rc;

use shell::Shell;
use stop::{Run, Stop};
use syntax::Dialect;

/// Interprets `call` against `draft`, to which `world` is dpkg's database.
///
/// A call that is deferred leaves the draft as it was.
pub fn run(call: &Call<'_>, draft: &mut Draft, world: &World, limits: &Limits) -> Outcome {
    let before = draft.savepoint();
    let outcome = interpret(call, draft, world, limits);
    if matches!(outcome, Outcome::Deferred(_)) {
        draft.go_back(before);
    }
    outcome
}

fn deferred(reason: Reason, why: impl Into<String>) -> Outcome {
    Outcome::Deferred(Deferral {
        reason,
        why: why.into(),
        command: None,
        line: None,
    })
}

fn interpret(call: &Call<'_>, draft: &mut Draft, world: &World, limits: &Limits) -> Outcome {
    if call.script.len() > limits.script {
        return deferred(
            Reason::Limit,
            format!(
                "the script has {} bytes; at most {} are read",
                call.script.len(),
                limits.script
            ),
        );
    }
    let (dialect, options) = match interpreter_of(call.script) {
        Ok(found) => found,
        Err(Some(interpreter)) => {
            return deferred(
                Reason::Interpreter,
                format!("the script is written for {interpreter}"),
            );
        }
        Err(None) => return deferred(Reason::Interpreter, "the script names no interpreter"),
    };
    let mut shell = Shell::new(call, draft, world, limits, dialect);
    let result = main(&mut shell, call, &options);
    let result = shell.leave(result).and_then(|status| {
        if status == 0 {
            commands::debconf::finish(&mut shell)?;
        }
        Ok(status)
    });
    let line = (shell.line > 0).then_some(shell.line);
    match result {
        Ok(0) => Outcome::Done(Done {
            commands: shell.record.commands,
            service_actions: shell.record.service_actions,
            triggers: shell.record.triggers,
            caches: shell.record.caches,
            log: lines(&shell.record.log),
        }),
        Ok(status) => {
            let said = lines(&shell.record.log).pop();
            let why = match said {
                Some(said) => format!("the script ends with exit status {status} after \"{said}\""),
                None => format!("the script ends with exit status {status}"),
            };
            Outcome::Deferred(Deferral {
                reason: Reason::Failed,
                why,
                command: None,
                line,
            })
        }
        Err(Stop::Deferred(mut deferral)) => {
            deferral.line = deferral.line.or(line);
            Outcome::Deferred(*deferral)
        }
        Err(_) => deferred(Reason::Failed, "the script ends in a broken way"),
    }
}

fn main(shell: &mut Shell<'_>, call: &Call<'_>, options: &[u8]) -> Run<i32> {
    let infix = if world_has_same(shell.world, call) {
        format!(":{}", call.architecture)
    } else {
        String::new()
    };
    let name = match call.name {
        ScriptName::Preinst => "/var/lib/dpkg/tmp.ci/preinst".to_owned(),
        name => format!("/var/lib/dpkg/info/{}{infix}.{name}", call.package),
    };
    shell.environment.name = name.into_bytes();
    shell.environment.positional = Rc::new(
        call.arguments
            .iter()
            .map(|argument| argument.clone().into_bytes())
            .collect(),
    );
    shell.set_flags(options);
    let list = shell.parse(call.script)?;
    shell.list(&list)
}

fn world_has_same(world: &World, call: &Call<'_>) -> bool {
    world
        .packages
        .get(call.package)
        .into_iter()
        .flatten()
        .any(|package| package.architecture == call.architecture && package.multi_arch_same)
}

fn lines(log: &[u8]) -> Vec<String> {
    log.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}

/// The shell that a script's first line names and the letters of its options; otherwise the interpreter it names.
fn interpreter_of(script: &[u8]) -> Result<(Dialect, Vec<u8>), Option<String>> {
    let Some(line) = script.strip_prefix(b"#!") else {
        return Err(None);
    };
    let end = line
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(line.len());
    let line = line.get(..end.min(127)).unwrap_or_default().trim_ascii();
    let text = String::from_utf8_lossy(line);
    let (program, option) = text
        .split_once([' ', '\t'])
        .map_or((text.as_ref(), ""), |(program, option)| {
            (program, option.trim())
        });
    let dialect = match program {
        "/bin/sh" | "/usr/bin/sh" | "/bin/dash" | "/usr/bin/dash" => Dialect::Posix,
        "/bin/bash" | "/usr/bin/bash" => Dialect::Bash,
        _ => return Err(Some(program.to_owned())),
    };
    match option.strip_prefix('-') {
        None if option.is_empty() => Ok((dialect, Vec::new())),
        Some(letters) if letters.bytes().all(|letter| b"euxfv".contains(&letter)) => {
            Ok((dialect, letters.as_bytes().to_vec()))
        }
        _ => Err(Some(text.into_owned())),
    }
}

/// The shell that a command's name means.
fn dialect_of(name: &[u8]) -> Dialect {
    if name.ends_with(b"bash") {
        Dialect::Bash
    } else {
        Dialect::Posix
    }
}
