//! Dormouse patches sleeping virtual machines before they wake.
//!
//! This is the program's own library: the command line, its settings, answers and progress. What it does stands in
//! the layers below: `dormouse-engine` and what that is built of.

mod answer;
mod arguments;
mod cli;
mod commands;
mod exit;
mod progress;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::CommandFactory;
use dormouse_block::{Error, escape_terminal};

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::settings::Settings;

/// Runs the program with these arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match arguments::parse(arguments.into_iter().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions are answers; everything else is a usage error.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return match error.print() {
                Ok(()) => exit::code(exit, &[]),
                Err(_) => exit::code(Exit::Tool, &[]),
            };
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let heard = stop.clone();
    // Without a handler an interruption ends the process at once, which loses nothing that was recorded.
    let _ = ctrlc::set_handler(move || heard.store(true, Ordering::Relaxed));
    let given = cli.global.exit_code.clone();
    let settings = match Settings::load(cli.global, stop.clone()) {
        Ok(settings) => settings,
        Err(error) => return exit::code(fail(&error, Exit::Usage), &given),
    };
    let exit = match dispatch(&cli.command, &settings) {
        Ok(exit) => exit,
        Err(error) => {
            let known = error
                .chain()
                .find_map(|cause| cause.downcast_ref::<Error>())
                .map(Exit::of_error);
            fail(&error, known.unwrap_or(Exit::Usage))
        }
    };
    let exit = if stop.load(Ordering::Relaxed) {
        Exit::Interrupted
    } else {
        exit
    };
    exit::code(exit, &settings.global.exit_code)
}

fn fail(error: &anyhow::Error, exit: Exit) -> Exit {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    commands::target::say(&escape_terminal(&line));
    if let Some(advice) = commands::target::advice(&line) {
        commands::target::say(&format!("  {advice}"));
    }
    exit
}

fn dispatch(command: &Command, settings: &Settings) -> anyhow::Result<Exit> {
    let bill = settings.global.format.is_some_and(cli::Format::is_bill);
    if bill && !matches!(command, Command::Inventory(_)) {
        anyhow::bail!("only an inventory can be written as a bill of materials");
    }
    let waking = settings.global.format.is_some_and(cli::Format::is_waking);
    if waking && !matches!(command, Command::CatchUp(_)) {
        anyhow::bail!("only a catch-up plan can be written as a script, user data or a playbook");
    }
    match command {
        Command::Inspect(arguments) => commands::inspect::run(arguments, settings),
        Command::Ls(arguments) => commands::ls::run(arguments, settings),
        Command::Cat(arguments) => commands::cat::run(arguments, settings),
        Command::Cp(arguments) => commands::cp::run(arguments, settings),
        Command::Inventory(arguments) => commands::inventory::run(arguments, settings),
        Command::Check(arguments) => commands::check::run(arguments, settings),
        Command::Plan(arguments) => commands::plan::run(arguments, settings),
        Command::Patch(arguments) => commands::patch::run(arguments, settings),
        Command::CatchUp(arguments) => commands::catch_up::run(arguments, settings),
        Command::Run(arguments) => commands::run::run(arguments, settings),
        Command::Report(arguments) => commands::report::run(arguments, settings),
        Command::Verify(arguments) => commands::verify::run(arguments, settings),
        Command::Query(arguments) => commands::query::run(arguments, settings),
        Command::Feed(arguments) => commands::feed::run(arguments, settings),
        Command::Key(arguments) => commands::key::run(arguments, settings),
        Command::Baseline(arguments) => commands::baseline::run(arguments, settings),
        Command::Estate(arguments) => commands::estate::run(arguments, settings),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "dormouse", &mut out);
            answer::Answer::new(settings).bytes(&out)?;
            Ok(Exit::Done)
        }
        Command::Man => {
            let mut out = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut out)?;
            answer::Answer::new(settings).bytes(&out)?;
            Ok(Exit::Done)
        }
    }
}
