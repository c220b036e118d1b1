//! Conffiles at unpacking (deb-conffiles(5)): which there are, which digests stay, where the new version goes.

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::Follow;
use dormouse_overlay::{Content, DraftNode};

use super::files::{list_name, path_of};
use super::package::{Conffile, NEW_CONFFILE};
use super::{Name, Session, Work};

/// Symbolic links followed from a conffile's name, as dpkg does.
const MAX_LINKS: usize = 25;
/// Largest conffile whose digest is computed, in bytes.
const MAX_CONFFILE: u64 = 64 << 20;

impl Session<'_> {
    /// Reads the new version's conffiles and copies the digests that the database has of them.
    pub(super) fn read_new_conffiles(&mut self, work: &mut Work<'_>) -> Result<()> {
        for conffile in work.deb.conffiles()? {
            let bytes = list_name(&conffile.path);
            let name = self.files.name(&bytes)?;
            let mut owners = self.files.owners(name).to_vec();
            // The package itself knows best.
            owners.sort_by_key(|owner| *owner != work.package);
            let hash = owners.iter().find_map(|owner| {
                self.package(*owner)
                    .conffiles
                    .iter()
                    .find(|known| known.path == bytes)
                    .map(|known| known.hash.clone())
            });
            let state = work.state(name);
            state.old_hash = Some(hash.unwrap_or_else(|| NEW_CONFFILE.to_owned()));
            if conffile.remove_on_upgrade {
                state.remove_on_upgrade = true;
            } else {
                state.new_conffile = true;
            }
            work.new_conffiles.push(name);
        }
        Ok(())
    }

    /// Marks the old version's conffiles, so that they do not go with its other files.
    pub(super) fn mark_old_conffiles(&mut self, work: &mut Work<'_>) -> Result<()> {
        for known in self.package(work.package).conffiles.clone() {
            let name = self.files.name(&known.path)?;
            let state = work.state(name);
            state.old_conffile = true;
            if state.old_hash.is_none() {
                state.old_hash = Some(known.hash);
            }
        }
        Ok(())
    }

    /// The name of a conffile with its symbolic links followed, even to where nothing is; `None` where it leads to
    /// something that is no plain file.
    pub(super) fn follow_conffile(&self, path: &GuestPath) -> Result<Option<GuestPath>> {
        let mut path = path.clone();
        for _ in 0..MAX_LINKS {
            let Some(found) = self.draft.get(&path, Follow::No)? else {
                return Ok(Some(path));
            };
            match found.node {
                DraftNode::File(_) => return Ok(Some(path)),
                DraftNode::Symlink(target) => {
                    let next = if target.starts_with(b"/") {
                        clean(&[], &target)
                    } else {
                        let parent = found.path.parent().unwrap_or_else(GuestPath::root);
                        clean(parent.as_bytes(), &target)
                    };
                    path = GuestPath::new(&next).map_err(|error| {
                        Error::corrupt("a conffile is a link to a bad name").because(error)
                    })?;
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The conffile lines that the database will have.
    pub(super) fn conffiles_of(&self, work: &Work<'_>) -> Vec<Conffile> {
        work.new_conffiles
            .iter()
            .map(|name| {
                let state = work.names.get(name).cloned().unwrap_or_default();
                Conffile {
                    path: self.files.text(*name).to_vec(),
                    hash: state.old_hash.unwrap_or_else(|| NEW_CONFFILE.to_owned()),
                    obsolete: state.obsolete,
                    remove_on_upgrade: state.remove_on_upgrade,
                }
            })
            .collect()
    }

    /// Another package had `name` as a conffile; from now on this one has it.
    pub(super) fn mark_obsolete(&mut self, package: usize, name: Name) {
        let bytes = self.files.text(name).to_vec();
        if !self
            .package(package)
            .conffiles
            .iter()
            .any(|known| known.path == bytes && !known.obsolete)
        {
            return;
        }
        for known in &mut self.change(package).conffiles {
            if known.path == bytes {
                known.obsolete = true;
            }
        }
    }

    /// Removes a conffile that the new version wants gone: at once where the administrator never changed it, aside as
    /// `.dpkg-old` where he did.
    pub(super) fn remove_on_upgrade(&mut self, work: &mut Work<'_>, name: Name) -> Result<()> {
        let own = self.package(work.package).name.clone();
        let bytes = self.files.text(name).to_vec();
        let used = self.diversions.place(&bytes, &own).to_vec();
        let Some(path) = self.follow_conffile(&path_of(&used)?)? else {
            work.state(name).old_hash = Some("-".to_owned());
            return Ok(());
        };
        if self
            .files
            .owners(name)
            .iter()
            .any(|owner| *owner != work.package)
        {
            return Ok(());
        }
        let beside = |ending: &str| path_of(&[path.as_bytes(), ending.as_bytes()].concat());
        let dist = beside(".dpkg-dist")?;
        if self.draft.get(&dist, Follow::No)?.is_some() {
            self.draft.remove(&dist)?;
        }
        let Some(current) = self.md5_of(&path)? else {
            return Ok(());
        };
        if work
            .names
            .get(&name)
            .and_then(|state| state.old_hash.as_ref())
            == Some(&current)
        {
            return self.draft.remove(&path);
        }
        self.draft.rename(&path, &beside(".dpkg-old")?)
    }

    /// A file's MD5 in lower-case hexadecimal; `None` where there is no plain file.
    pub(super) fn md5_of(&self, path: &GuestPath) -> Result<Option<String>> {
        let Some(found) = self.draft.get(path, Follow::No)? else {
            return Ok(None);
        };
        let DraftNode::File(content) = &found.node else {
            return Ok(None);
        };
        Ok(Some(hex(&self.digest::<md5::Md5>(content)?)))
    }

    /// A content's digest of whatever kind.
    pub(super) fn digest<D: md5::Digest>(&self, content: &Content) -> Result<Vec<u8>> {
        use std::io::Read as _;
        if content.size() > MAX_CONFFILE {
            return Err(Error::limit(
                "a file that must be compared has more than 64 MiB",
            ));
        }
        let mut bytes = Vec::new();
        self.draft
            .open(content)?
            .take(MAX_CONFFILE)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("cannot read a file of the guest", error))?;
        Ok(D::digest(&bytes).to_vec())
    }
}

/// `target` seen from the directory `from`, `..` taken out by name, as dpkg takes it.
fn clean(from: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in from
        .split(|&byte| byte == b'/')
        .chain(target.split(|&byte| byte == b'/'))
    {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    [b"/".as_slice(), &parts.join(&b'/')].concat()
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use md5::Digest as _;

    use super::*;

    #[test]
    fn links_are_cleaned_by_name() {
        assert_eq!(clean(b"/etc/a", b"../b/./c"), b"/etc/b/c");
        assert_eq!(clean(b"/etc", b"../../../x"), b"/x");
        assert_eq!(clean(b"", b"/y//z"), b"/y/z");
        assert_eq!(
            hex(&md5::Md5::digest(b"")),
            "d41d8cd98f00b204e9800998ecf8427e"
        );
    }
}
