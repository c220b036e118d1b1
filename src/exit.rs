//! Exit codes: what ended a command, and the number a script sees.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;

use dormouse_block::{Error, ErrorKind};

/// How a command ended. The order is that of precedence: the gravest of several wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Compliant, verified, done.
    Done,
    /// A verdict below the gate.
    Findings,
    /// Something could not be read or judged, and the answer might hide a finding.
    Incomplete,
    /// The command line or the configuration is wrong.
    Usage,
    /// The tool or the host failed.
    Tool,
    /// Asked to stop; running again goes on from there.
    Interrupted,
}

impl Exit {
    const NAMES: [(&'static str, Self); 5] = [
        ("findings", Self::Findings),
        ("usage", Self::Usage),
        ("incomplete", Self::Incomplete),
        ("tool-error", Self::Tool),
        ("interrupted", Self::Interrupted),
    ];

    /// The number it has unless it is remapped.
    #[must_use]
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Findings => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Tool => 4,
            Self::Interrupted => 130,
        }
    }

    /// What an error that stops a whole command ends it with.
    #[must_use]
    pub(crate) fn of_error(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Io => Self::Tool,
            ErrorKind::Cancelled => Self::Interrupted,
            ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Limit | ErrorKind::Denied => {
                Self::Incomplete
            }
        }
    }
}

/// `--exit-code KIND=N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remap {
    exit: Exit,
    code: u8,
}

impl FromStr for Remap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kinds = || Exit::NAMES.map(|(name, _)| name).join(", ");
        let (kind, code) = text
            .split_once('=')
            .ok_or_else(|| format!("expected KIND=N, where KIND is one of {}", kinds()))?;
        let exit = Exit::NAMES
            .iter()
            .find_map(|(name, exit)| (*name == kind).then_some(*exit))
            .ok_or_else(|| format!("'{kind}' is none of {}", kinds()))?;
        let code = code
            .parse()
            .map_err(|_| format!("'{code}' is no number from 0 to 255"))?;
        Ok(Self { exit, code })
    }
}

/// The number for `exit` under these remappings; the last one for a kind wins.
#[must_use]
pub(crate) fn code(exit: Exit, remaps: &[Remap]) -> ExitCode {
    let map: BTreeMap<Exit, u8> = remaps
        .iter()
        .map(|remap| (remap.exit, remap.code))
        .collect();
    ExitCode::from(map.get(&exit).copied().unwrap_or(exit.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remapping_names_what_it_does_not_know() {
        assert_eq!(
            "findings=7".parse(),
            Ok(Remap {
                exit: Exit::Findings,
                code: 7
            })
        );
        assert!(
            "finding=7"
                .parse::<Remap>()
                .unwrap_err()
                .contains("findings")
        );
        assert!("findings=700".parse::<Remap>().is_err());
    }

    #[test]
    fn incomplete_outranks_findings() {
        assert!(Exit::Incomplete > Exit::Findings);
    }
}
