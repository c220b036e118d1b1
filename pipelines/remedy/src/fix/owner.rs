//! Whose a file is that a fix changes: conffiles, files of packages, diversions, by dpkg's own lists.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{GuestPath, Result};
use dormouse_overlay::Draft;
use dormouse_packages::dpkg::{Database, MAX_STATUS};

use crate::dpkg::fixed;

/// Largest list of a package's files read, in bytes.
const MAX_LIST: u64 = 64 << 20;
/// Largest list of diversions read, in bytes.
const MAX_DIVERSIONS: u64 = 4 << 20;

/// What there is to know of each path, one clause each; nothing where the guest has no dpkg.
///
/// # Errors
/// What reading the guest returns.
pub(super) fn notes(
    draft: &Draft,
    paths: &BTreeSet<GuestPath>,
) -> Result<BTreeMap<GuestPath, BTreeSet<String>>> {
    let mut notes: BTreeMap<GuestPath, BTreeSet<String>> = BTreeMap::new();
    let Some(status) = draft.read(&fixed("/var/lib/dpkg/status")?, MAX_STATUS)? else {
        return Ok(notes);
    };
    let mut spelt: BTreeMap<Vec<u8>, &GuestPath> = BTreeMap::new();
    for path in paths {
        for name in spellings(path) {
            spelt.insert(name, path);
        }
    }
    let mut add = |path: &GuestPath, note: String| {
        notes.entry(path.clone()).or_default().insert(note);
    };
    let database = Database::parse(&status);
    let mut conffiles: BTreeSet<&GuestPath> = BTreeSet::new();
    for record in database.records() {
        for conffile in &record.conffiles {
            if let Some(path) = spelt.get(conffile.path.as_bytes()) {
                conffiles.insert(path);
                add(
                    path,
                    format!(
                        "{path} is a conffile of {}: its upgrades find it changed, as by an administrator",
                        record.name
                    ),
                );
            }
        }
    }
    for record in database.records() {
        if !record.status.state.has_files() {
            continue;
        }
        let list = fixed(&format!("/var/lib/dpkg/info/{}.list", record.info_name()))?;
        let Some(bytes) = draft.read(&list, MAX_LIST)? else {
            continue;
        };
        for line in bytes.split(|&byte| byte == b'\n') {
            if let Some(path) = spelt.get(line)
                && !conffiles.contains(*path)
            {
                add(
                    path,
                    format!(
                        "{path} is a file of {}: its next upgrade brings its own",
                        record.name
                    ),
                );
            }
        }
    }
    let diversions = fixed("/var/lib/dpkg/diversions")?;
    let diversions = draft.read(&diversions, MAX_DIVERSIONS)?.unwrap_or_default();
    let lines: Vec<&[u8]> = diversions.split(|&byte| byte == b'\n').collect();
    let (triples, _) = lines.as_chunks::<3>();
    for [from, to, by] in triples {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let whose = match *by {
            b":" => "an administrator".to_owned(),
            name => text(name),
        };
        if let Some(path) = spelt.get(*from) {
            add(
                path,
                format!("{path} is diverted to {} by {whose}", text(to)),
            );
        }
        if let Some(path) = spelt.get(*to) {
            let from = text(from);
            add(path, format!("{path} is what {whose} diverted {from} to"));
        }
    }
    Ok(notes)
}

/// How dpkg's lists may spell a path: packages may still name what the merged /usr holds by the links to it.
fn spellings(path: &GuestPath) -> Vec<Vec<u8>> {
    let bytes = path.as_bytes();
    let mut names = vec![bytes.to_vec()];
    if let Some(rest) = bytes.strip_prefix(b"/usr")
        && [&b"/bin/"[..], b"/sbin/", b"/lib"]
            .iter()
            .any(|folder| rest.starts_with(folder))
    {
        names.push(rest.to_vec());
    }
    names
}
