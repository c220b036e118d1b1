//! A maintainer script to interpret, and what became of it.

use std::collections::BTreeSet;
use std::fmt;

use dormouse_filesystem::Time;
use serde::{Deserialize, Serialize};

/// Which maintainer script (Debian policy, chapter 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptName {
    /// Before unpacking.
    Preinst,
    /// Configuration, and triggers.
    Postinst,
    /// Before removal, and before an upgrade of the old version.
    Prerm,
    /// After removal, and after an upgrade of the old version.
    Postrm,
    /// debconf's questions, asked before unpacking or configuration.
    Config,
}

impl ScriptName {
    /// The name as `/var/lib/dpkg/info` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preinst => "preinst",
            Self::Postinst => "postinst",
            Self::Prerm => "prerm",
            Self::Postrm => "postrm",
            Self::Config => "config",
        }
    }
}

impl fmt::Display for ScriptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One call of one maintainer script, as dpkg would make it.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The script's bytes.
    pub script: &'a [u8],
    /// Which script it is.
    pub name: ScriptName,
    /// The arguments dpkg gives it, such as `["upgrade", "1.0-1", "1.1-1"]`.
    pub arguments: Vec<String>,
    /// The package, without its architecture.
    pub package: &'a str,
    /// The package's own architecture, such as `amd64` or `all`.
    pub architecture: &'a str,
    /// `DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT` (1 unless several architectures are installed), and whatever else is to be
    /// added to or changed in the environment that dpkg sets up.
    pub environment: Vec<(String, String)>,
    /// The version of the dpkg that is taken to run the script: `DPKG_RUNNING_VERSION`.
    pub dpkg_version: &'a str,
    /// The time of every change the script makes.
    pub now: Time,
}

/// Bounds on what one script may use. Meeting one defers the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest script, in bytes.
    pub script: usize,
    /// Commands, loop rounds, expansions and steps of the text commands, all told.
    pub steps: u64,
    /// Nesting of commands, functions, substitutions and sourced files.
    pub depth: u32,
    /// Bytes held at once in one variable, pipe, or file under work.
    pub object: usize,
    /// Bytes read, written and passed between commands, all told.
    pub bytes: u64,
}

impl Default for Limits {
    /// Far above every script of Debian's (the largest has 40 KiB and needs some 100,000 steps), and done in a second.
    fn default() -> Self {
        Self {
            script: 1 << 20,
            steps: 20_000_000,
            depth: 100,
            object: 64 << 20,
            bytes: 1 << 30,
        }
    }
}

/// What became of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was interpreted to its end and ended with exit status 0; the draft has its changes.
    Done(Done),
    /// It was not; the draft is as it was before.
    Deferred(Deferral),
}

/// What an interpreted script did beside changing the draft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Done {
    /// The commands that were interpreted, builtins of the shell left out.
    pub commands: BTreeSet<String>,
    /// Actions on services that a sleeping machine does not need, such as `systemctl daemon-reload`.
    pub service_actions: Vec<String>,
    /// Triggers that it activated.
    pub triggers: Vec<Trigger>,
    /// Caches that it would have made and that are left to be made: what reads them finds them missing or outdated, does
    /// without, and makes them anew.
    #[serde(default)]
    pub caches: Vec<String>,
    /// What it wrote to its standard output and error, line by line, cut to a bound.
    pub log: Vec<String>,
}

/// An activated trigger (deb-triggers(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trigger {
    /// Its name, or the file's path.
    pub name: String,
    /// The package that activates it, if any (`dpkg-trigger --by-package`).
    pub by: Option<String>,
    /// Whether that package waits for it to be processed.
    pub awaited: bool,
}

/// Why a script was not interpreted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deferral {
    /// The class of reason.
    pub reason: Reason,
    /// Why, in one lower-case clause.
    pub why: String,
    /// The command that stopped it, if one did.
    pub command: Option<String>,
    /// The line of the script, from 1, if it is known.
    pub line: Option<u32>,
}

/// Classes of reasons for not interpreting a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is written for another interpreter than a POSIX shell.
    Interpreter,
    /// It is no POSIX shell script, or uses a construct of another shell.
    Syntax,
    /// It calls a command that is not interpreted.
    Command,
    /// It calls an interpreted command in a way that is not.
    Usage,
    /// It asks for the state of a running system: a device, `/proc`, `/sys`, the kernel, the network.
    Running,
    /// It asks a question to which the guest has no answer.
    Question,
    /// It met one of the [`Limits`].
    Limit,
    /// It ended with an exit status other than 0.
    Failed,
    /// The guest's files could not be read.
    Guest,
}

impl Reason {
    /// The reason as facts spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interpreter => "interpreter",
            Self::Syntax => "syntax",
            Self::Command => "command",
            Self::Usage => "usage",
            Self::Running => "running",
            Self::Question => "question",
            Self::Limit => "limit",
            Self::Failed => "failed",
            Self::Guest => "guest",
        }
    }
}

impl fmt::Display for Deferral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(command) = &self.command {
            write!(f, "{}: ", dormouse_block::escape_terminal(command))?;
        }
        f.write_str(&dormouse_block::escape_terminal(&self.why))
    }
}
