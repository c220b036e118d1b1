//! Conffiles at configuration (deb-conffiles(5)): the new version, the administrator's, or both.

use dormouse_block::{GuestPath, Result};
use dormouse_filesystem::Follow;

use super::Session;
use super::files::path_of;
use super::package::NEW_CONFFILE;

/// The digest that stands for a conffile that is no plain file.
const NO_FILE: &str = "-";

/// What is done with the new version of a conffile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// It takes the name.
    Install,
    /// It is dropped: there is nothing new in it, or nothing of the administrator's in the old one.
    Drop,
    /// The administrator's stays, and the new one is put beside it.
    Keep,
}

/// What dpkg chooses with `--force-confdef --force-confold`; digests are hexadecimal MD5, `None` where no file is.
fn choose(last: &str, current: Option<&str>, new: &str) -> Choice {
    match current {
        Some(current) if current == new => Choice::Drop,
        None if last == NEW_CONFFILE => Choice::Install,
        Some(_) if last == NEW_CONFFILE => Choice::Keep,
        current => match (current == Some(last), last == new) {
            (_, true) => Choice::Drop,
            (true, false) => Choice::Install,
            (false, false) => Choice::Keep,
        },
    }
}

impl Session<'_> {
    /// Settles what became of one conffile: its line's new digest, and its path where the administrator's version
    /// stays and the new one is beside it as `.dpkg-dist`.
    pub(super) fn settle_conffile(
        &mut self,
        package: usize,
        name: &[u8],
        last: &str,
    ) -> Result<(Option<String>, Option<GuestPath>)> {
        let own = self.package(package).name.clone();
        let used = self.diversions.place(name, &own).to_vec();
        let Some(path) = self.follow_conffile(&path_of(&used)?)? else {
            return Ok((Some(NO_FILE.to_owned()), None));
        };
        let beside = |ending: &str| path_of(&[path.as_bytes(), ending.as_bytes()].concat());
        let new_path = beside(".dpkg-new")?;
        let Some(arrived) = self.draft.get(&new_path, Follow::No)? else {
            return Ok((None, None));
        };
        let Some(new) = self.md5_of(&new_path)? else {
            return Ok((None, None));
        };
        let standing = self.draft.get(&path, Follow::No)?;
        let current = self.md5_of(&path)?;
        if let Some(standing) = &standing {
            let mut attributes = arrived.attributes;
            attributes.mode = standing.attributes.mode;
            attributes.uid = standing.attributes.uid;
            attributes.gid = standing.attributes.gid;
            if attributes != self.standing_attributes(&new_path)? {
                self.draft.set_attributes(&new_path, attributes)?;
            }
        }
        let mut kept = None;
        match choose(last, current.as_deref(), &new) {
            Choice::Drop => self.draft.remove(&new_path)?,
            Choice::Install => {
                self.activate_path(&used, package);
                self.replace_by(&new_path, &path)?;
            }
            Choice::Keep => {
                let line = format!("conffile {} keep", String::from_utf8_lossy(name));
                self.log.add(&line);
                let old = beside(".dpkg-old")?;
                if self.draft.get(&old, Follow::No)?.is_some() {
                    self.draft.remove(&old)?;
                }
                self.replace_by(&new_path, &beside(".dpkg-dist")?)?;
                kept = Some(path);
            }
        }
        Ok((Some(new), kept))
    }

    fn standing_attributes(&self, path: &GuestPath) -> Result<dormouse_overlay::Attributes> {
        Ok(self
            .draft
            .get(path, Follow::No)?
            .map_or_else(|| self.plain(0o644), |found| found.attributes))
    }

    /// rename(2): what stands at `to` goes.
    fn replace_by(&mut self, from: &GuestPath, to: &GuestPath) -> Result<()> {
        if self.draft.get(to, Follow::No)?.is_some() {
            self.draft.remove(to)?;
        }
        self.draft.rename(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_dpkg_s() {
        assert_eq!(choose("a", Some("a"), "b"), Choice::Install);
        assert_eq!(choose("a", Some("a"), "a"), Choice::Drop);
        assert_eq!(choose("a", Some("x"), "a"), Choice::Drop);
        assert_eq!(choose("a", Some("x"), "b"), Choice::Keep);
        assert_eq!(choose("a", Some("b"), "b"), Choice::Drop);
        assert_eq!(choose("a", None, "b"), Choice::Keep);
        assert_eq!(choose("a", None, "a"), Choice::Drop);
        assert_eq!(choose(NEW_CONFFILE, None, "b"), Choice::Install);
        assert_eq!(choose(NEW_CONFFILE, Some("x"), "b"), Choice::Keep);
    }
}
