//! Which package owns which path: every `info/*.list`, read once.

use foldhash::HashMap;

use dormouse_block::{Error, GuestPath, Result};

/// Names of all lists together. A full desktop has some 500,000.
const MAX_NAMES: usize = 20_000_000;

/// A path as list files spell it: `/.` for the root.
pub(super) fn list_name(path: &GuestPath) -> Vec<u8> {
    if path.is_root() {
        b"/.".to_vec()
    } else {
        path.as_bytes().to_vec()
    }
}

/// A name of a list as a path.
pub(super) fn path_of(name: &[u8]) -> Result<GuestPath> {
    GuestPath::new(name)
        .map_err(|error| Error::corrupt("a bad name in a list of files").because(error))
}

/// A name that some package's list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(u32);

/// All lists.
#[derive(Debug, Default)]
pub(super) struct Files {
    ids: HashMap<std::sync::Arc<[u8]>, Name>,
    names: Vec<std::sync::Arc<[u8]>>,
    owners: Vec<Owners>,
    lists: HashMap<usize, Vec<Name>>,
}

/// Most paths have one owner; only directories have many.
#[derive(Debug, Clone, Default)]
enum Owners {
    #[default]
    None,
    One(usize),
    Many(Vec<usize>),
}

impl Owners {
    fn add(&mut self, package: usize) {
        match self {
            Self::None => *self = Self::One(package),
            Self::One(known) if *known == package => {}
            Self::One(known) => *self = Self::Many(vec![*known, package]),
            Self::Many(known) => {
                if !known.contains(&package) {
                    known.push(package);
                }
            }
        }
    }

    fn remove(&mut self, package: usize) {
        match self {
            Self::One(known) if *known == package => *self = Self::None,
            Self::Many(known) => known.retain(|known| *known != package),
            _ => {}
        }
    }

    fn as_slice(&self) -> &[usize] {
        match self {
            Self::None => &[],
            Self::One(known) => std::slice::from_ref(known),
            Self::Many(known) => known,
        }
    }
}

impl Files {
    /// The name's number, given to it now if it has none.
    pub(super) fn name(&mut self, name: &[u8]) -> Result<Name> {
        if let Some(known) = self.ids.get(name) {
            return Ok(*known);
        }
        let next = self.names.len();
        if next >= MAX_NAMES {
            return Err(Error::limit("more than 20,000,000 names in lists of files"));
        }
        let id = Name(
            u32::try_from(next).map_err(|_| Error::limit("too many names in lists of files"))?,
        );
        let shared: std::sync::Arc<[u8]> = name.into();
        self.ids.insert(shared.clone(), id);
        self.names.push(shared);
        self.owners.push(Owners::None);
        Ok(id)
    }

    /// The number of a name that has one.
    #[cfg(test)]
    pub(super) fn known(&self, name: &[u8]) -> Option<Name> {
        self.ids.get(name).copied()
    }

    /// The name itself.
    pub(super) fn text(&self, name: Name) -> &[u8] {
        self.names.get(index(name)).map_or(&[], |text| text)
    }

    /// The packages whose lists have it.
    pub(super) fn owners(&self, name: Name) -> &[usize] {
        self.owners
            .get(index(name))
            .map_or(&[], |owners| owners.as_slice())
    }

    /// A package's list in order.
    pub(super) fn list(&self, package: usize) -> &[Name] {
        self.lists.get(&package).map_or(&[], Vec::as_slice)
    }

    /// Packages that have a list.
    pub(super) fn listed(&self) -> Vec<usize> {
        let mut packages: Vec<usize> = self.lists.keys().copied().collect();
        packages.sort_unstable();
        packages
    }

    /// Replaces a package's list.
    pub(super) fn set_list(&mut self, package: usize, list: Vec<Name>) {
        for name in self.lists.remove(&package).unwrap_or_default() {
            if let Some(owners) = self.owners.get_mut(index(name)) {
                owners.remove(package);
            }
        }
        for name in &list {
            if let Some(owners) = self.owners.get_mut(index(*name)) {
                owners.add(package);
            }
        }
        self.lists.insert(package, list);
    }

    /// Forgets a package's list.
    pub(super) fn forget(&mut self, package: usize) {
        self.set_list(package, Vec::new());
        self.lists.remove(&package);
    }

    /// Reads the text of a list file; trailing slashes go, as in dpkg.
    pub(super) fn read_list(&mut self, package: usize, bytes: &[u8]) -> Result<()> {
        let mut list = Vec::new();
        for line in bytes.split(|&byte| byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            let mut line = line;
            while let Some(shorter) = line.strip_suffix(b"/").filter(|rest| !rest.is_empty()) {
                line = shorter;
            }
            list.push(self.name(line)?);
        }
        self.set_list(package, list);
        Ok(())
    }

    /// The text of a package's list file.
    pub(super) fn list_text(&self, list: &[Name]) -> Vec<u8> {
        let mut out = Vec::new();
        for name in list {
            out.extend_from_slice(self.text(*name));
            out.push(b'\n');
        }
        out
    }
}

fn index(name: Name) -> usize {
    usize::try_from(name.0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_many_owners_and_lists_can_be_replaced() {
        let mut files = Files::default();
        files.read_list(1, b"/.\n/usr\n/usr/a\n").unwrap();
        files.read_list(2, b"/.\n/usr/\n/usr/b\n").unwrap();
        let usr = files.known(b"/usr").unwrap();
        assert_eq!(files.owners(usr), [1, 2]);
        files.set_list(1, vec![usr]);
        assert_eq!(
            files.owners(files.known(b"/usr/a").unwrap()),
            [] as [usize; 0]
        );
        assert_eq!(files.owners(usr), [2, 1]);
        files.forget(2);
        assert_eq!(files.owners(usr), [1]);
        assert_eq!(files.list_text(files.list(1)), b"/usr\n");
        assert_eq!(files.listed(), [1]);
    }
}
