//! Compiled indices of repositories, kept in the state between runs.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use dormouse_advisories::IndexToKeep;

/// Largest kept index that is read, in bytes. All of Debian's main has 31 MB.
const MAX_KEPT: u64 = 1 << 30;
/// Kept indices; the ones used longest ago go first.
const MAX_FILES: usize = 64;

/// The folder that holds them. Nothing here ever fails: an index that cannot be kept is read anew.
///
/// A kept index is used where it and the folder belong to the same user and nobody else can write them, so that whoever
/// may lie in it may lie in the rest of the state too.
#[derive(Clone)]
pub(crate) struct IndexFolder {
    folder: PathBuf,
}

/// Threads that keep indices. Whoever holds it waits for them when it goes.
#[derive(Default)]
pub(crate) struct Keeping(Mutex<Vec<JoinHandle<()>>>);

impl Keeping {
    /// Keeps `index` in `folder` under `name`, by and by.
    pub(crate) fn keep(&self, folder: IndexFolder, name: String, index: IndexToKeep) {
        let keep = move || {
            // As an index that cannot be saved: it is read anew.
            drop(index.keep(|parts| folder.save(&name, parts)));
        };
        let thread = std::thread::Builder::new().name("keep".to_owned());
        if let Ok(thread) = thread.spawn(keep) {
            let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            threads.push(thread);
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let threads = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // One that broke off kept nothing.
            drop(thread.join());
        }
    }
}

fn is_private(metadata: &std::fs::Metadata, owner: u32) -> bool {
    metadata.uid() == owner && metadata.permissions().mode() & 0o022 == 0
}

impl IndexFolder {
    pub(crate) fn new(folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self { folder }
    }

    pub(crate) fn load(&self, name: &str) -> Option<Vec<u8>> {
        let folder = std::fs::symlink_metadata(&self.folder).ok()?;
        let path = self.folder.join(name);
        let file = std::fs::symlink_metadata(&path).ok()?;
        let usable = is_private(&folder, folder.uid())
            && file.is_file()
            && is_private(&file, folder.uid())
            && file.len() <= MAX_KEPT;
        if !usable {
            return None;
        }
        // So that it counts as used; a host that does not let us loses nothing.
        if let Ok(opened) = std::fs::File::open(&path) {
            drop(opened.set_modified(SystemTime::now()));
        }
        std::fs::read(path).ok()
    }

    pub(crate) fn save(&self, name: &str, parts: &[&[u8]]) {
        // That it is not kept costs time and nothing else.
        drop(self.try_save(name, parts));
    }

    fn try_save(&self, name: &str, parts: &[&[u8]]) -> std::io::Result<()> {
        if !self.folder.is_dir() {
            std::fs::create_dir_all(&self.folder)?;
            std::fs::set_permissions(&self.folder, std::fs::Permissions::from_mode(0o700))?;
        }
        // Readable and writable by its owner alone, as temporary files are; a name only once it is whole.
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.persist(self.folder.join(name))?;
        self.prune()
    }

    fn prune(&self) -> std::io::Result<()> {
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
        kept.sort();
        let surplus = kept.len().saturating_sub(MAX_FILES);
        for (_, path) in kept.into_iter().take(surplus) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}
