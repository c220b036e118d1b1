//! The folders and files of a new image, as their paths say.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};

use super::{Child, Folder, MAX_DEPTH, MAX_NAME};

/// Folders as they are found.
pub(super) struct Tree {
    folders: Vec<Folder>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            folders: vec![Folder::default()],
        }
    }
}

impl Tree {
    pub(super) fn add(&mut self, path: &str, file: usize) -> Result<()> {
        let bad = || Error::corrupt(format!("no path of an image: {path:?}"));
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap_or_default();
        let mut here = 0;
        if parts.len() > MAX_DEPTH {
            return Err(Error::limit(format!(
                "{path} lies in more than {MAX_DEPTH} folders, which ISO 9660 does not allow"
            )));
        }
        for part in &parts {
            check_name(part, path)?;
            let next = self.folders.len();
            let known = self
                .folders
                .get_mut(here)
                .ok_or_else(bad)?
                .children
                .entry((*part).to_owned())
                .or_insert(Child::Folder(next));
            let Child::Folder(found) = *known else {
                return Err(bad());
            };
            if found == next {
                self.folders.push(Folder {
                    parent: here,
                    ..Folder::default()
                });
            }
            here = found;
        }
        check_name(name, path)?;
        let folder = self.folders.get_mut(here).ok_or_else(bad)?;
        match folder.children.insert(name.to_owned(), Child::File(file)) {
            None => Ok(()),
            Some(_) => Err(bad()),
        }
    }

    /// The folders in the path table's order, and the files' indices in the order in which they are met.
    pub(super) fn in_order(self) -> (Vec<Folder>, Vec<usize>) {
        let mut order = vec![0];
        let mut at = 0;
        while let Some(&index) = order.get(at) {
            let children = self.folders.get(index).map(|folder| &folder.children);
            order.extend(
                children
                    .into_iter()
                    .flatten()
                    .filter_map(|(_, child)| match child {
                        Child::Folder(folder) => Some(*folder),
                        Child::File(_) => None,
                    }),
            );
            at = at.saturating_add(1);
        }
        let place: BTreeMap<usize, usize> = order
            .iter()
            .enumerate()
            .map(|(place, index)| (*index, place))
            .collect();
        let new = |index: usize| place.get(&index).copied().unwrap_or_default();
        let mut old: Vec<Option<Folder>> = self.folders.into_iter().map(Some).collect();
        let mut files = Vec::new();
        let mut folders = Vec::new();
        for index in order {
            let Some(mut folder) = old.get_mut(index).and_then(Option::take) else {
                continue;
            };
            folder.parent = new(folder.parent);
            for child in folder.children.values_mut() {
                match child {
                    Child::Folder(folder) => *folder = new(*folder),
                    Child::File(file) => {
                        files.push(*file);
                        *file = files.len().saturating_sub(1);
                    }
                }
            }
            folders.push(folder);
        }
        (folders, files)
    }
}

fn check_name(name: &str, path: &str) -> Result<()> {
    if name.len() > MAX_NAME {
        return Err(Error::limit(format!(
            "a name of more than {MAX_NAME} bytes in {path}"
        )));
    }
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['\0', '/']) {
        return Err(Error::corrupt(format!("no path of an image: {path:?}")));
    }
    Ok(())
}
