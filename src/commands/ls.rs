//! `dormouse ls`.

use dormouse_block::{Error, GuestPath, Locator};
use dormouse_filesystem::{Follow, Guest, Metadata, NodeKind};
use serde::Serialize;

use super::target::{open_point, split};
use crate::answer::Answer;
use crate::cli::Paths;
use crate::exit::Exit;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    schema: &'static str,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    path: GuestPath,
    kind: NodeKind,
    mode: String,
    uid: u32,
    gid: u32,
    links: u32,
    size: u64,
    modified: String,
    target: Option<String>,
}

/// Lists folders and files of guests.
///
/// # Errors
/// What cannot be read.
pub(crate) fn run(arguments: &Paths, settings: &Settings) -> anyhow::Result<Exit> {
    let mut entries = Vec::new();
    for argument in &arguments.paths {
        let (image, path) = split(argument)?;
        let (_, point) = open_point(&image, settings)?;
        list(point.only_guest()?, &path, &mut entries)?;
    }
    let answer = Answer::new(settings);
    if answer.is_table() {
        let mut rows = answer.table(&[
            "Mode", "Links", "Owner", "Group", "Size", "Modified", "Path",
        ]);
        for entry in &entries {
            let target = entry
                .target
                .as_ref()
                .map(|target| format!(" -> {target}"))
                .unwrap_or_default();
            rows.add([
                entry.mode.clone(),
                entry.links.to_string(),
                entry.uid.to_string(),
                entry.gid.to_string(),
                entry.size.to_string(),
                entry.modified.clone(),
                format!("{}{target}", entry.path),
            ]);
        }
        answer.bytes(rows.text().as_bytes())?;
    } else {
        answer.json(&Document {
            schema: "dormouse/listing/v1",
            entries,
        })?;
    }
    Ok(Exit::Done)
}

fn list(guest: &Guest, path: &GuestPath, entries: &mut Vec<Entry>) -> anyhow::Result<()> {
    if let Some(names) = guest.read_dir(path)? {
        let mut names: Vec<_> = names.into_iter().map(|entry| entry.name).collect();
        names.sort();
        for name in names {
            let child = path.join(&name)?;
            entries.push(entry(guest, child)?);
        }
    } else {
        entries.push(entry(guest, path.clone())?);
    }
    Ok(())
}

fn entry(guest: &Guest, path: GuestPath) -> anyhow::Result<Entry> {
    let metadata = guest.metadata(&path, Follow::No)?.ok_or_else(|| {
        Error::corrupt("no such file").located(&Locator::default().path(path.clone()))
    })?;
    let target = match metadata.kind {
        NodeKind::Symlink => guest
            .read_link(&path)?
            .map(|target| String::from_utf8_lossy(&target).into_owned()),
        _ => None,
    };
    Ok(Entry {
        kind: metadata.kind,
        mode: mode(&metadata),
        uid: metadata.uid,
        gid: metadata.gid,
        links: metadata.links,
        size: metadata.size,
        modified: jiff::Timestamp::from_second(metadata.mtime.seconds)
            .map(|time| time.to_string())
            .unwrap_or_default(),
        target,
        path,
    })
}

/// The mode as `ls -l` spells it.
fn mode(metadata: &Metadata) -> String {
    let mut out = String::with_capacity(10);
    out.push(match metadata.kind {
        NodeKind::File => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::CharDevice => 'c',
        NodeKind::BlockDevice => 'b',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
    });
    let bits = metadata.mode;
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bit = |mask: u16| bits & (mask << shift) != 0;
        out.push(if bit(4) { 'r' } else { '-' });
        out.push(if bit(2) { 'w' } else { '-' });
        out.push(match (bits & special != 0, bit(1)) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}
