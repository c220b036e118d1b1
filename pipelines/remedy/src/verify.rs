//! An injection read back and held against what was planned.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Digest, DigestReader, Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, Guest, Metadata, NodeKind};
use dormouse_packages::dpkg::Database;
use serde::{Deserialize, Serialize};

use crate::inject::inventory;
use crate::injection::{ExpectedPackage, Injection, PathChange, xattr_digests};

/// Nodes compared in one guest.
const MAX_NODES: usize = 20_000_000;
/// Nodes of the base held in memory at most: about 60 MB.
const MAX_HELD: usize = 400_000;
/// Deviations named one by one.
const MAX_DEVIATIONS: usize = 1_000;

/// How an injected guest stands to its injection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Verification {
    /// [`Verification::SCHEMA`].
    pub schema: String,
    /// Which machine and restore point the injection was made over.
    pub at: Locator,
    /// Whether all is as planned.
    pub passed: bool,
    /// Paths of the plan that were looked at.
    pub paths: usize,
    /// Bytes of files whose digests were computed.
    pub bytes: u64,
    /// Paths not in the plan that were compared with the base.
    pub others: usize,
    /// What is not as planned; a thousand at most.
    pub deviations: Vec<Deviation>,
}

/// One thing that is not as planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deviation {
    /// Where, if at a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<GuestPath>,
    /// What, in one clause.
    pub what: String,
}

/// What the directories of a guest hold, read before it is compared, while the processors have little else to do.
///
/// It holds as much as its bound allows; the rest is read when it is asked for.
#[derive(Debug, Default)]
pub struct Before {
    directories: BTreeMap<GuestPath, BTreeMap<Vec<u8>, Metadata>>,
}

impl Before {
    /// Walks `base`.
    ///
    /// # Errors
    /// What reading the guest returns.
    pub fn read(base: &Guest) -> Result<Self> {
        let mut before = Self::default();
        let mut todo = vec![GuestPath::root()];
        let mut held = 0_usize;
        while let Some(directory) = todo.pop() {
            let found = entries(base, &directory)?;
            held = held.saturating_add(found.len());
            if held > MAX_HELD {
                break;
            }
            for (name, metadata) in &found {
                if metadata.kind == NodeKind::Directory {
                    todo.push(join(&directory, name)?);
                }
            }
            before.directories.insert(directory, found);
        }
        Ok(before)
    }
}

fn join(directory: &GuestPath, name: &[u8]) -> Result<GuestPath> {
    directory
        .join(name)
        .map_err(|error| Error::corrupt("a bad name in a directory").because(error))
}

struct Verifier<'a> {
    after: &'a Guest,
    injection: &'a Injection,
    out: Verification,
}

/// Reads `after`, the injected guest, and compares it with `base` and `injection`: the paths changed are the planned
/// ones, each file's bytes are the planned ones, and the package database says what was expected.
///
/// # Errors
/// What reading either guest returns.
pub fn verify(base: &Guest, after: &Guest, injection: &Injection) -> Result<Verification> {
    let others = verify_others(base, &Before::default(), after, injection)?;
    Ok(verify_planned(after, injection)?.and(others))
}

/// The half of [`verify`] that reads every planned path and the package database.
///
/// # Errors
/// What reading the guest returns.
pub fn verify_planned(after: &Guest, injection: &Injection) -> Result<Verification> {
    let mut verifier = Verifier::of(after, injection);
    verifier.planned()?;
    verifier.inventory()?;
    Ok(verifier.done())
}

/// The half of [`verify`] that compares every other path with the base, of which `before` was read already.
///
/// # Errors
/// What reading either guest returns.
pub fn verify_others(
    base: &Guest,
    before: &Before,
    after: &Guest,
    injection: &Injection,
) -> Result<Verification> {
    let mut verifier = Verifier::of(after, injection);
    verifier.others(base, before)?;
    Ok(verifier.done())
}

impl Verification {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/verification/v1";

    /// This and the other half, as one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.passed &= other.passed;
        self.paths = self.paths.saturating_add(other.paths);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.others = self.others.saturating_add(other.others);
        self.deviations.extend(other.deviations);
        self.deviations.truncate(MAX_DEVIATIONS);
        self
    }
}

impl<'a> Verifier<'a> {
    fn of(after: &'a Guest, injection: &'a Injection) -> Self {
        Self {
            after,
            injection,
            out: Verification {
                schema: Verification::SCHEMA.to_owned(),
                at: injection.at.clone(),
                passed: false,
                paths: 0,
                bytes: 0,
                others: 0,
                deviations: Vec::new(),
            },
        }
    }

    fn done(mut self) -> Verification {
        self.out.passed = self.out.deviations.is_empty();
        self.out
    }

    fn deviate(&mut self, path: Option<&GuestPath>, what: impl Into<String>) {
        if self.out.deviations.len() < MAX_DEVIATIONS {
            self.out.deviations.push(Deviation {
                path: path.cloned(),
                what: what.into(),
            });
        }
    }

    fn planned(&mut self) -> Result<()> {
        for (path, change) in &self.injection.paths {
            self.out.paths = self.out.paths.saturating_add(1);
            let found = self.after.metadata(path, Follow::No)?;
            match (change, found) {
                (PathChange::Removed, None) => {}
                (PathChange::Removed, Some(_)) => self.deviate(Some(path), "is still there"),
                (_, None) => self.deviate(Some(path), "is missing"),
                (
                    PathChange::Attributes {
                        mode,
                        uid,
                        gid,
                        mtime,
                        xattrs,
                    },
                    Some(found),
                ) => {
                    self.xattrs(path, xattrs)?;
                    let is = (found.mode, found.uid, found.gid, found.mtime.seconds);
                    if is != (*mode, *uid, *gid, mtime.seconds) {
                        self.deviate(Some(path), "has another mode, owner or time than planned");
                    }
                }
                (put @ PathChange::Put { .. }, Some(found)) => self.put(path, put, &found)?,
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &GuestPath, put: &PathChange, found: &Metadata) -> Result<()> {
        let PathChange::Put {
            kind,
            mode,
            uid,
            gid,
            mtime,
            size,
            digest,
            same_as,
            xattrs,
            ..
        } = put
        else {
            return Ok(());
        };
        if found.kind != *kind {
            self.deviate(
                Some(path),
                format!("is a {:?} and not a {kind:?}", found.kind),
            );
            return Ok(());
        }
        let link = *kind == NodeKind::Symlink;
        if (!link && found.mode != *mode) || (found.uid, found.gid) != (*uid, *gid) {
            self.deviate(Some(path), "has another mode or owner than planned");
        }
        if *kind == NodeKind::File && found.mtime.seconds != mtime.seconds {
            self.deviate(Some(path), "has another time than planned");
        }
        self.xattrs(path, xattrs)?;
        if let Some(same_as) = same_as {
            let other = self.after.metadata(same_as, Follow::No)?;
            if other.map(|other| other.node) != Some(found.node) {
                self.deviate(Some(path), format!("is not the same file as {same_as}"));
            }
        }
        match kind {
            NodeKind::File => {
                let (is, bytes) = self.digest_of(path, found)?;
                self.out.bytes = self.out.bytes.saturating_add(bytes);
                if Some(bytes) != *size || Some(is) != *digest {
                    self.deviate(
                        Some(path),
                        format!("has {bytes} bytes of {is}, not those planned"),
                    );
                }
            }
            NodeKind::Symlink => {
                let target = self.after.read_link(path)?.unwrap_or_default();
                if Some(Digest::of(target)) != *digest {
                    self.deviate(Some(path), "leads elsewhere than planned");
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn xattrs(&mut self, path: &GuestPath, planned: &BTreeMap<String, Digest>) -> Result<()> {
        let found = self.after.xattrs(path, Follow::No)?.unwrap_or_default();
        if xattr_digests(&found) != *planned {
            self.deviate(Some(path), "has other extended attributes than planned");
        }
        Ok(())
    }

    fn digest_of(&self, path: &GuestPath, found: &Metadata) -> Result<(Digest, u64)> {
        let missing =
            || Error::corrupt("no such file").located(&Locator::default().path(path.clone()));
        let at = self.after.resolve(path, Follow::No)?.ok_or_else(missing)?;
        let mount = self.after.mounts().get(at.mount).ok_or_else(missing)?;
        let mut reader = DigestReader::new(NodeReader {
            tree: mount.tree.as_ref(),
            node: at.node,
            offset: 0,
            size: found.size,
        });
        let mut buf = vec![0; 256 << 10];
        loop {
            match std::io::Read::read(&mut reader, &mut buf) {
                Ok(0) => return Ok(reader.finish()),
                Ok(_) => {}
                Err(error) => {
                    let at = Locator::default().path(path.clone());
                    return Err(crate::deb::reading(error).located(&at));
                }
            }
        }
    }

    /// Everything else is as it was.
    fn others(&mut self, base: &Guest, held: &Before) -> Result<()> {
        let mut todo = vec![GuestPath::root()];
        let mut seen = 0_usize;
        while let Some(directory) = todo.pop() {
            let before = match held.directories.get(&directory) {
                Some(held) => Cow::Borrowed(held),
                None => Cow::Owned(entries(base, &directory)?),
            };
            let after = entries(self.after, &directory)?;
            let names: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
            for name in names {
                seen = seen.saturating_add(1);
                if seen > MAX_NODES {
                    return Err(Error::limit("more than 20,000,000 files in one guest"));
                }
                let path = join(&directory, name)?;
                let (old, new) = (before.get(name), after.get(name));
                let is_directory = |found: Option<&Metadata>| {
                    found.is_some_and(|found| found.kind == NodeKind::Directory)
                };
                if is_directory(old) && is_directory(new) {
                    todo.push(path.clone());
                }
                if self.injection.paths.contains_key(&path) {
                    continue;
                }
                self.out.others = self.out.others.saturating_add(1);
                match (old, new) {
                    (Some(old), Some(new)) if same(old, new) => {}
                    (Some(_), Some(_)) => {
                        self.deviate(Some(&path), "changed and was not to change");
                    }
                    (None, Some(_)) => self.deviate(Some(&path), "is there and was not planned"),
                    (Some(_), None) => self.deviate(Some(&path), "is gone and was not to go"),
                    (None, None) => {}
                }
            }
        }
        Ok(())
    }

    fn inventory(&mut self) -> Result<()> {
        let Some(database) = Database::read(self.after)? else {
            // A guest of another family has none, and nothing was expected of it.
            if !self.injection.inventory.is_empty() {
                self.deviate(None, "there is no package database any more");
            }
            return Ok(());
        };
        for gap in database.gaps.clone() {
            self.deviate(gap.at.path.as_ref(), gap.why.clone());
        }
        let is = inventory(&database);
        let name = |one: &ExpectedPackage| {
            format!(
                "{}:{} {} {}",
                one.name, one.architecture, one.version, one.status
            )
        };
        let expected = &self.injection.inventory;
        let wrong: Vec<String> = is
            .difference(expected)
            .map(|one| {
                format!(
                    "the package database has {}, which was not expected",
                    name(one)
                )
            })
            .chain(
                expected
                    .difference(&is)
                    .map(|one| format!("the package database has no {}", name(one))),
            )
            .collect();
        for what in wrong {
            self.deviate(None, what);
        }
        Ok(())
    }
}

fn entries(guest: &Guest, directory: &GuestPath) -> Result<BTreeMap<Vec<u8>, Metadata>> {
    let missing =
        || Error::corrupt("no such directory").located(&Locator::default().path(directory.clone()));
    let at = guest.resolve(directory, Follow::No)?.ok_or_else(missing)?;
    let mount = guest.mounts().get(at.mount).ok_or_else(missing)?;
    let mut out = BTreeMap::new();
    for entry in mount.tree.read_dir(at.node)? {
        let path = join(directory, &entry.name)?;
        let mounted = guest.mounts().iter().rev().find(|mount| mount.at == path);
        let metadata = match mounted {
            Some(mount) => mount.tree.metadata(mount.tree.root())?,
            None => mount.tree.metadata(entry.node)?,
        };
        out.insert(entry.name, metadata);
    }
    Ok(out)
}

/// Whether a node that nobody planned to change is what it was. A directory's own time and size follow its entries.
fn same(old: &Metadata, new: &Metadata) -> bool {
    let basics = |of: &Metadata| (of.node, of.kind, of.mode, of.uid, of.gid, of.device);
    basics(old) == basics(new)
        && (old.kind == NodeKind::Directory || (old.size, old.mtime) == (new.size, new.mtime))
}

struct NodeReader<'a> {
    tree: &'a dyn dormouse_filesystem::Tree,
    node: dormouse_filesystem::NodeId,
    offset: u64,
    size: u64,
}

impl std::io::Read for NodeReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let Some(part) = buf.get_mut(..wanted).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let n = self
            .tree
            .read_at(self.node, self.offset, part)
            .map_err(std::io::Error::other)?;
        self.offset = self
            .offset
            .saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}
