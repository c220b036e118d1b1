//! What apt itself notes of an upgrade: which packages came as dependencies, and its history.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dormouse_block::{Error, Result};
use dormouse_filesystem::{Follow, Time};
use dormouse_overlay::{Attributes, Content, Draft, DraftNode};

use crate::dpkg::fixed;
use crate::injection::InjectedPackage;
use crate::plan::{Decision, Plan, PlannedPackage};

/// Largest list of automatically installed packages that is added to, in bytes.
const MAX_EXTENDED_STATES: u64 = 64 << 20;
/// Largest history that is added to, in bytes.
const MAX_HISTORY: u64 = 64 << 20;

/// Adds to apt's notes in a guest that has apt.
pub(crate) fn note(
    plan: &Plan,
    packages: &[InjectedPackage],
    native: &str,
    draft: &mut Draft,
    now: Time,
) -> Result<()> {
    note_automatic(plan, packages, native, draft, now)?;
    note_history(plan, packages, native, draft, now)
}

fn architecture<'a>(planned: &'a PlannedPackage, native: &'a str) -> &'a str {
    if planned.architecture == "all" {
        native
    } else {
        &planned.architecture
    }
}

/// Tells apt which packages came as dependencies, so that `autoremove` may take them one day.
fn note_automatic(
    plan: &Plan,
    packages: &[InjectedPackage],
    native: &str,
    draft: &mut Draft,
    now: Time,
) -> Result<()> {
    let new = plan
        .packages
        .iter()
        .zip(packages)
        .filter(|(planned, package)| {
            planned.installed.is_none() && !matches!(package.decision, Decision::Refuse { .. })
        })
        .map(|(planned, _)| planned);
    let mut added = String::new();
    for planned in new {
        let architecture = architecture(planned, native);
        let name = &planned.name;
        added.push_str(&format!(
            "Package: {name}\nArchitecture: {architecture}\nAuto-Installed: 1\n\n"
        ));
    }
    if added.is_empty() || draft.get(&fixed("/var/lib/apt")?, Follow::Links)?.is_none() {
        return Ok(());
    }
    let path = fixed("/var/lib/apt/extended_states")?;
    let mut text = draft.read(&path, MAX_EXTENDED_STATES)?.unwrap_or_default();
    if !text.is_empty() && !text.ends_with(b"\n\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(added.as_bytes());
    put(draft, "/var/lib/apt/extended_states", text, now)
}

/// Adds this upgrade to `history.log`, in UTC.
fn note_history(
    plan: &Plan,
    packages: &[InjectedPackage],
    native: &str,
    draft: &mut Draft,
    now: Time,
) -> Result<()> {
    const HISTORY: &str = "/var/log/apt/history.log";
    if draft.get(&fixed("/var/log/apt")?, Follow::Links)?.is_none() {
        return Ok(());
    }
    let (mut installed, mut upgraded) = (Vec::new(), Vec::new());
    for (planned, package) in plan.packages.iter().zip(packages) {
        if package.decision != Decision::Inject {
            continue;
        }
        let name = format!("{}:{}", planned.name, architecture(planned, native));
        match &planned.installed {
            Some(old) => upgraded.push(format!("{name} ({old}, {})", planned.version)),
            None => installed.push(format!("{name} ({}, automatic)", planned.version)),
        }
    }
    if installed.is_empty() && upgraded.is_empty() {
        return Ok(());
    }
    let stamp = jiff::Timestamp::from_second(now.seconds)
        .map_err(|error| Error::limit("a time beyond the year 9999").because(error))?
        .strftime("%Y-%m-%d  %H:%M:%S")
        .to_string();
    let mut entry = format!("\nStart-Date: {stamp}\nCommandline: dormouse patch\n");
    for (label, list) in [("Install", installed), ("Upgrade", upgraded)] {
        if !list.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(entry, "{label}: {}", list.join(", "));
        }
    }
    let _ = writeln!(entry, "End-Date: {stamp}");
    let mut text = draft
        .read(&fixed(HISTORY)?, MAX_HISTORY)?
        .unwrap_or_default();
    text.extend_from_slice(entry.as_bytes());
    put(draft, HISTORY, text, now)
}

/// Puts a file in the place of the one that stands there, whose mode and owner it keeps.
fn put(draft: &mut Draft, path: &str, bytes: Vec<u8>, now: Time) -> Result<()> {
    let path = fixed(path)?;
    let standing = draft.get(&path, Follow::No)?;
    let attributes = match standing {
        Some(standing) => Attributes {
            mtime: now,
            ..standing.attributes
        },
        None => Attributes {
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: now,
            xattrs: BTreeMap::new(),
        },
    };
    draft.put(&path, DraftNode::File(Content::bytes(bytes)), attributes)
}
