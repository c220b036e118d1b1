//! The work that is left for the machine's own first boot, and who does it there.
//!
//! `/var/lib/dormouse/first-boot` is a POSIX script that configures what is unpacked, installs the package files that
//! wait below `/var/lib/dormouse/pending`, and removes itself and its unit when dpkg has nothing to say any more. A systemd unit
//! runs it, or a System V script where there is no systemd. What it did is in `/var/lib/dormouse/first-boot.json` and
//! `/var/log/dormouse/first-boot.log`.

use std::collections::BTreeMap;

use dormouse_block::{Digest, Result};
use dormouse_filesystem::{Follow, Time};
use dormouse_overlay::{Attributes, Content, Draft, DraftNode};

use crate::dpkg::fixed;

/// The script's text.
pub const SCRIPT: &str = include_str!("first-boot.sh");
/// The unit's text.
pub const UNIT: &str = include_str!("dormouse-first-boot.service");
/// The System V script's text.
pub const INIT: &str = include_str!("dormouse-first-boot.init");

const STATE: &str = "/var/lib/dormouse";
const UNIT_PATH: &str = "/etc/systemd/system/dormouse-first-boot.service";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";
const INIT_PATH: &str = "/etc/init.d/dormouse-first-boot";

/// A package file that waits in the guest.
pub(crate) struct Pending {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    pub(crate) payload: Digest,
    pub(crate) content: Content,
}

/// Puts the script, its unit and the package files that wait, in their order.
pub(crate) fn install(
    draft: &mut Draft,
    pending: &[Pending],
    restart: &[String],
    now: Time,
) -> Result<()> {
    let plain = |mode| Attributes {
        mode,
        uid: 0,
        gid: 0,
        mtime: now,
        xattrs: BTreeMap::new(),
    };
    let text = |text: &str| DraftNode::File(Content::bytes(text.as_bytes()));
    draft.make_directories(&fixed(STATE)?, &plain(0o755))?;
    draft.put(
        &fixed(&format!("{STATE}/first-boot"))?,
        text(SCRIPT),
        plain(0o755),
    )?;
    // What an earlier first boot left of its work is void.
    for old in ["attempts", "waiting", "restart", "first-boot.json"] {
        let path = fixed(&format!("{STATE}/{old}"))?;
        if draft.get(&path, Follow::No)?.is_some() {
            draft.remove(&path)?;
        }
    }
    if !restart.is_empty() {
        let lines: String = restart.iter().map(|why| format!("{why}\n")).collect();
        draft.put(
            &fixed(&format!("{STATE}/restart"))?,
            text(&lines),
            plain(0o644),
        )?;
    }
    if !pending.is_empty() {
        draft.make_directories(&fixed(&format!("{STATE}/pending"))?, &plain(0o700))?;
        let mut list = String::new();
        for (number, one) in pending.iter().enumerate() {
            let file = format!(
                "{:04}_{}_{}.deb",
                number.saturating_add(1),
                one.package,
                one.architecture
            );
            list.push_str(&format!(
                "{} {file} {}:{} {}\n",
                one.payload.hex(),
                one.package,
                one.architecture,
                one.version
            ));
            draft.put(
                &fixed(&format!("{STATE}/pending/{file}"))?,
                DraftNode::File(one.content.clone()),
                plain(0o600),
            )?;
        }
        draft.put(
            &fixed(&format!("{STATE}/waiting"))?,
            text(&list),
            plain(0o644),
        )?;
    }
    let is_there = |draft: &Draft, path: &str| -> Result<bool> {
        Ok(draft.get(&fixed(path)?, Follow::Links)?.is_some())
    };
    if is_there(draft, "/usr/lib/systemd/systemd")? || is_there(draft, "/lib/systemd/systemd")? {
        draft.make_directories(&fixed(WANTS)?, &plain(0o755))?;
        draft.put(&fixed(UNIT_PATH)?, text(UNIT), plain(0o644))?;
        return draft.put(
            &fixed(&format!("{WANTS}/dormouse-first-boot.service"))?,
            DraftNode::Symlink(UNIT_PATH.as_bytes().to_vec()),
            plain(0o777),
        );
    }
    if is_there(draft, "/etc/init.d")? {
        draft.put(&fixed(INIT_PATH)?, text(INIT), plain(0o755))?;
        for level in ["2", "3", "4", "5"] {
            let folder = format!("/etc/rc{level}.d");
            if is_there(draft, &folder)? {
                draft.put(
                    &fixed(&format!("{folder}/S99dormouse-first-boot"))?,
                    DraftNode::Symlink(b"../init.d/dormouse-first-boot".to_vec()),
                    plain(0o777),
                )?;
            }
        }
    }
    Ok(())
}
