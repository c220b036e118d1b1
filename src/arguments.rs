//! Arguments into a command: for the commands of one image, without the tree of all the others.

use std::ffi::OsString;

use clap::{Args, Command, FromArgMatches, Parser};

use crate::cli::{Cli, Global, Images, Inventory, Paths};

/// Reads the arguments, the program's name first.
///
/// # Errors
/// What clap says of them; help and versions that are asked for are among its errors.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    match parse_alone(&arguments) {
        Some(cli) => Ok(cli),
        None => Cli::try_parse_from(arguments),
    }
}

/// Reads the arguments of a command that is named first, with nothing of the other commands: these, each with all flags that
/// mean the same everywhere, take longer to build than most images take to open. `None` when it is another command, and
/// whenever there is something to say, which the whole command line says better.
fn parse_alone(arguments: &[OsString]) -> Option<Cli> {
    let name = arguments.get(1)?.to_str()?;
    let (name, augment): (&'static str, fn(Command) -> Command) = match name {
        "inspect" => ("inspect", Images::augment_args),
        "ls" => ("ls", Paths::augment_args),
        "cat" => ("cat", Paths::augment_args),
        "inventory" => ("inventory", Inventory::augment_args),
        "check" => ("check", Images::augment_args),
        _ => return None,
    };
    let command = Global::augment_args(Command::new("dormouse"))
        .subcommand_required(true)
        .subcommand(augment(Command::new(name)));
    let mut matches = command.try_get_matches_from(arguments).ok()?;
    Cli::from_arg_matches_mut(&mut matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_command_alone_is_read_as_among_all_the_others() {
        for line in [
            "dormouse inventory a.qcow2",
            "dormouse inventory a b --format json --no-progress --catalogers dpkg,rpm -vv",
            "dormouse inspect --point all -q -o out a.raw",
            "dormouse check a --baseline b --only security,CVE-2026-1 --fail-on pending --jobs 3",
            "dormouse check --exit-code findings=9 --as-of 2026-01-01T00:00:00Z -- -a",
            "dormouse ls a.qcow2:/etc --color never",
            "dormouse cat a.qcow2:/etc/fstab b:/x --luks-key k:l",
        ] {
            let alone = parse_alone(&of(line)).expect(line);
            let whole = Cli::try_parse_from(of(line)).expect(line);
            assert_eq!(format!("{alone:?}"), format!("{whole:?}"), "{line}");
        }
    }

    #[test]
    fn whatever_is_to_be_said_is_said_by_the_whole_command_line() {
        for line in [
            "dormouse",
            "dormouse --version",
            "dormouse --quiet inventory a",
            "dormouse help inventory",
            "dormouse inventory",
            "dormouse inventory --help",
            "dormouse inventory --version",
            "dormouse inventory a --formt json",
            "dormouse inventory a --format jso",
            "dormouse check a --as-of yesterday",
            "dormouse plan a",
            "dormouse invent a",
        ] {
            assert!(parse_alone(&of(line)).is_none(), "{line}");
            let (ours, whole) = (parse(of(line)), Cli::try_parse_from(of(line)));
            assert_eq!(format!("{ours:?}"), format!("{whole:?}"), "{line}");
        }
    }
}
