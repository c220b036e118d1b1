//! A bounded walk over all folders of a guest.

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{Follow, Guest, NodeKind};

use crate::Catalogue;

/// Folders looked into. A desktop full of node modules has some 200,000.
const MAX_FOLDERS: usize = 400_000;
/// How deep below the root.
const MAX_DEPTH: usize = 64;
/// Folders of the root that hold no files of the guest.
const NOT_FILES: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// An entry of a folder.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) path: GuestPath,
    pub(super) kind: NodeKind,
}

/// Shows `visit` the entries of every folder of the guest, in the order of their names, links not followed. What is too deep, too
/// much or broken stands in the catalogue's gaps.
///
/// # Errors
/// Failures of the host, and whatever `visit` returns.
pub(super) fn walk(
    guest: &Guest,
    catalogue: &mut Catalogue,
    mut visit: impl FnMut(&mut Catalogue, &GuestPath, &[Entry]) -> Result<()>,
) -> Result<()> {
    let mut todo = vec![(GuestPath::root(), 0_usize)];
    let mut seen = 0_usize;
    while let Some((folder, depth)) = todo.pop() {
        seen = seen.saturating_add(1);
        if seen > MAX_FOLDERS {
            return catalogue.gap(Error::limit("more than 400000 folders"), &folder);
        }
        let entries = match list(guest, &folder) {
            Ok(entries) => entries,
            Err(error) => {
                catalogue.gap(error, &folder)?;
                continue;
            }
        };
        visit(catalogue, &folder, &entries)?;
        for entry in entries.into_iter().rev() {
            if entry.kind != NodeKind::Directory
                || NOT_FILES
                    .iter()
                    .any(|path| entry.path.as_bytes() == path.as_bytes())
            {
                continue;
            }
            if depth >= MAX_DEPTH {
                catalogue.gap(Error::limit("folders deeper than 64"), &entry.path)?;
            } else {
                todo.push((entry.path, depth.saturating_add(1)));
            }
        }
    }
    Ok(())
}

fn list(guest: &Guest, folder: &GuestPath) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in guest.read_dir(folder)?.unwrap_or_default() {
        let Ok(path) = folder.join(&entry.name) else {
            return Err(Error::corrupt("a name that is none"));
        };
        let kind = match entry.kind {
            Some(kind) => Some(kind),
            None => guest
                .metadata(&path, Follow::No)?
                .map(|metadata| metadata.kind),
        };
        if let Some(kind) = kind {
            entries.push(Entry {
                name: entry.name,
                path,
                kind,
            });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
