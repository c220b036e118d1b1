//! What the work that was left for a machine's first boot says of itself.

use std::fmt;

use dormouse_block::{GuestPath, Result};
use dormouse_filesystem::{Follow, Guest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where the machine writes it.
const PATH: &str = "/var/lib/dormouse/first-boot.json";
/// Largest record read, in bytes; real ones have under 200.
const MAX_RECORD: usize = 4096;

/// How far the first boot's work came. The machine itself wrote this: it is told, and no verdict rests on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FirstBoot {
    /// `dormouse/first-boot/v1`.
    pub schema: String,
    /// How it ended, if it did.
    pub outcome: FirstBootOutcome,
    /// The step it was at.
    pub step: FirstBootPlace,
    /// How often it was begun.
    pub attempts: u32,
    /// Whether the machine is to be started once more.
    #[serde(default)]
    pub restart: bool,
    /// When it was written, by the machine's clock.
    pub time: Timestamp,
}

/// How the first boot's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstBootOutcome {
    /// It was begun, and neither succeeded nor failed: the power may have gone.
    Running,
    /// A step failed; the next boot tries again.
    Failed,
    /// Nothing is left to do.
    Done,
}

/// Steps of the first boot's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstBootPlace {
    /// Before the first step.
    Begin,
    /// Configuring what is unpacked.
    Configure,
    /// Installing package files that waited.
    Install,
    /// Asking dpkg whether anything is left.
    Audit,
    /// After the last step.
    End,
}

impl fmt::Display for FirstBoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.step {
            FirstBootPlace::Begin | FirstBootPlace::End => "",
            FirstBootPlace::Configure => " while configuring packages",
            FirstBootPlace::Install => " while installing packages that waited",
            FirstBootPlace::Audit => " because dpkg has more to say",
        };
        match self.outcome {
            FirstBootOutcome::Done => write!(f, "its first-boot work was done at {}", self.time)?,
            FirstBootOutcome::Failed => write!(
                f,
                "its first-boot work failed at {}{place}, {} attempts so far; /var/log/dormouse/first-boot.log in the machine says why",
                self.time, self.attempts
            )?,
            FirstBootOutcome::Running => write!(
                f,
                "its first-boot work was begun at {} and not ended; the next boot goes on",
                self.time
            )?,
        }
        if self.restart {
            f.write_str("; it is to be started once more to run its new kernel")?;
        }
        Ok(())
    }
}

/// Reads the record of a guest; `None` where there is none that reads.
///
/// # Errors
/// What reading the guest's files returns.
pub(crate) fn read(guest: &Guest) -> Result<Option<FirstBoot>> {
    let Ok(path) = GuestPath::new(PATH) else {
        return Ok(None);
    };
    let Some(found) = guest.resolve(&path, Follow::Links)? else {
        return Ok(None);
    };
    let Some(mount) = guest.mounts().get(found.mount) else {
        return Ok(None);
    };
    let mut bytes = vec![0; MAX_RECORD];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = u64::try_from(filled).unwrap_or(u64::MAX);
        match mount.tree.read_at(found.node, offset, rest)? {
            0 => break,
            n => filled = filled.saturating_add(n),
        }
    }
    bytes.truncate(filled);
    let record: Option<FirstBoot> = serde_json::from_slice(&bytes).ok();
    Ok(record.filter(|record| record.schema == "dormouse/first-boot/v1"))
}

#[cfg(test)]
mod tests {
    use dormouse_filesystem::MemoryTree;

    use super::*;

    fn of(text: &str) -> Option<FirstBoot> {
        let mut tree = MemoryTree::new();
        tree.file(PATH, text.as_bytes());
        read(&Guest::of(tree)).unwrap()
    }

    #[test]
    fn what_the_script_writes_is_read() {
        let said = of(
            "{\"schema\":\"dormouse/first-boot/v1\",\"outcome\":\"failed\",\"step\":\"configure\",\"attempts\":2,\"restart\":true,\"time\":\"2026-11-20T10:00:00Z\"}\n",
        )
        .unwrap();
        assert_eq!(
            (said.outcome, said.attempts, said.restart),
            (FirstBootOutcome::Failed, 2, true)
        );
        assert!(
            said.to_string()
                .contains("while configuring packages, 2 attempts")
        );
    }

    #[test]
    fn what_a_machine_makes_up_is_no_record() {
        for text in ["", "{}", "[1]", "{\"schema\":\"dormouse/first-boot/v1\"}"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(read(&Guest::of(MemoryTree::new())).unwrap(), None);
    }
}
