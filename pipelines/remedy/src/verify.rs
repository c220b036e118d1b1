//! An injection read back and held against what was planned.

mod reach;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use dormouse_block::{Digest, DigestReader, Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, Guest, Metadata, NodeId, NodeKind, Tree};
use dormouse_packages::dpkg::Database;
use serde::{Deserialize, Serialize};

use self::reach::Reach;
use crate::inject::inventory;
use crate::injection::{ExpectedPackage, Injection, PathChange, xattr_digests};

/// Nodes compared in one guest.
const MAX_NODES: usize = 20_000_000;
/// Bytes of a file read in one step.
const STEP: usize = 256 << 10;
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
    /// Paths not in the plan that were compared with the base; of the others no byte was written.
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

/// Names in a directory, in order, and what stands under each.
type Entries = Vec<(Vec<u8>, Metadata)>;

/// Which bytes of each mount of a guest an image written over another one holds itself.
pub type Written = Vec<Vec<Range<u64>>>;

fn join(directory: &GuestPath, name: &[u8]) -> Result<GuestPath> {
    directory
        .join(name)
        .map_err(|error| Error::corrupt("a bad name in a directory").because(error))
}

/// What a path leads to.
struct Found<'a> {
    tree: &'a dyn Tree,
    metadata: Metadata,
}

struct Verifier<'a> {
    after: &'a Guest,
    injection: &'a Injection,
    out: Verification,
    /// What files are read through.
    buffer: Vec<u8>,
}

/// Reads `after`, the injected guest, and compares it with `base` and `injection`: the paths changed are the planned
/// ones, each file's bytes are the planned ones, and the package database says what was expected.
///
/// # Errors
/// What reading either guest returns.
pub fn verify(base: &Guest, after: &Guest, injection: &Injection) -> Result<Verification> {
    let paths: Vec<_> = injection.paths.iter().collect();
    Ok(verify_planned(after, injection, &paths)?
        .and(verify_inventory(after, injection)?)
        .and(verify_others(base, after, injection, None)?))
}

/// The part of [`verify`] that reads planned paths: these of them.
///
/// # Errors
/// What reading the guest returns.
pub fn verify_planned(
    after: &Guest,
    injection: &Injection,
    paths: &[(&GuestPath, &PathChange)],
) -> Result<Verification> {
    let mut verifier = Verifier::of(after, injection);
    verifier.planned(paths)?;
    Ok(verifier.done())
}

/// The part of [`verify`] that reads the package database.
///
/// # Errors
/// What reading the guest returns.
pub fn verify_inventory(after: &Guest, injection: &Injection) -> Result<Verification> {
    let mut verifier = Verifier::of(after, injection);
    verifier.inventory()?;
    Ok(verifier.done())
}

/// The part of [`verify`] that finds whether any other path changed.
///
/// Where `written` says which bytes of each of the guest's mounts are not simply those of `base`, only what those bytes
/// reach is compared, as far as the filesystems' tables tell; else, and where anything is not as it should be, every path.
///
/// # Errors
/// What reading either guest returns.
pub fn verify_others(
    base: &Guest,
    after: &Guest,
    injection: &Injection,
    written: Option<&Written>,
) -> Result<Verification> {
    let mut verifier = Verifier::of(after, injection);
    let near = match written {
        Some(written) => Reach::of(base, after, injection, written)?
            .map(|reach| reach.others(base))
            .transpose()?
            .flatten(),
        None => None,
    };
    match near {
        Some(others) => verifier.out.others = others,
        None => verifier.others(base)?,
    }
    Ok(verifier.done())
}

impl Verification {
    /// The schema that this version writes and reads.
    pub const SCHEMA: &'static str = "dormouse/verification/v1";

    /// This and another part, as one.
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
            buffer: Vec::new(),
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

    fn planned(&mut self, paths: &[(&GuestPath, &PathChange)]) -> Result<()> {
        for (path, change) in paths.iter().copied() {
            self.out.paths = self.out.paths.saturating_add(1);
            let located = |error: Error| error.located(&Locator::default().path(path.clone()));
            match (change, self.look(path).map_err(located)?) {
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
                    self.xattrs(path, &found, xattrs).map_err(located)?;
                    let found = &found.metadata;
                    let is = (found.mode, found.uid, found.gid, found.mtime.seconds);
                    if is != (*mode, *uid, *gid, mtime.seconds) {
                        self.deviate(Some(path), "has another mode, owner or time than planned");
                    }
                }
                (put @ PathChange::Put { .. }, Some(found)) => {
                    self.put(path, put, &found).map_err(located)?;
                }
            }
        }
        Ok(())
    }

    /// What the path leads to.
    fn look(&self, path: &GuestPath) -> Result<Option<Found<'a>>> {
        let Some(at) = self.after.resolve(path, Follow::No)? else {
            return Ok(None);
        };
        let Some(mount) = self.after.mounts().get(at.mount) else {
            return Ok(None);
        };
        let tree = mount.tree.as_ref();
        let metadata = tree.metadata(at.node)?;
        Ok(Some(Found { tree, metadata }))
    }

    fn put(&mut self, path: &GuestPath, put: &PathChange, at: &Found<'_>) -> Result<()> {
        let found = &at.metadata;
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
        self.xattrs(path, at, xattrs)?;
        if let Some(same_as) = same_as {
            let other = self.after.metadata(same_as, Follow::No)?;
            if other.map(|other| other.node) != Some(found.node) {
                self.deviate(Some(path), format!("is not the same file as {same_as}"));
            }
        }
        match kind {
            NodeKind::File => {
                let (is, bytes) = self.digest_of(at)?;
                self.out.bytes = self.out.bytes.saturating_add(bytes);
                if Some(bytes) != *size || Some(is) != *digest {
                    self.deviate(
                        Some(path),
                        format!("has {bytes} bytes of {is}, not those planned"),
                    );
                }
            }
            NodeKind::Symlink => {
                let target = at.tree.read_link(found.node)?;
                if Some(Digest::of(target)) != *digest {
                    self.deviate(Some(path), "leads elsewhere than planned");
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn xattrs(
        &mut self,
        path: &GuestPath,
        at: &Found<'_>,
        planned: &BTreeMap<String, Digest>,
    ) -> Result<()> {
        let found = at.tree.xattrs(at.metadata.node)?;
        if xattr_digests(&found) != *planned {
            self.deviate(Some(path), "has other extended attributes than planned");
        }
        Ok(())
    }

    fn digest_of(&mut self, at: &Found<'_>) -> Result<(Digest, u64)> {
        let mut reader = DigestReader::new(NodeReader {
            tree: at.tree,
            node: at.metadata.node,
            offset: 0,
            size: at.metadata.size,
        });
        self.buffer.resize(STEP, 0);
        loop {
            match std::io::Read::read(&mut reader, &mut self.buffer) {
                Ok(0) => return Ok(reader.finish()),
                Ok(_) => {}
                Err(error) => return Err(crate::deb::reading(error)),
            }
        }
    }

    /// Everything else is as it was.
    fn others(&mut self, base: &Guest) -> Result<()> {
        let planned: HashSet<&GuestPath, foldhash::fast::RandomState> =
            self.injection.paths.keys().collect();
        let mut todo = vec![(GuestPath::root(), true, true)];
        let mut seen = 0_usize;
        while let Some((directory, was, is)) = todo.pop() {
            let before = was.then(|| entries(base, &directory)).transpose()?;
            let after = is.then(|| entries(self.after, &directory)).transpose()?;
            let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
            for (name, old, new) in side_by_side(&before, &after) {
                seen = seen.saturating_add(1);
                if seen > MAX_NODES {
                    return Err(Error::limit("more than 20,000,000 files in one guest"));
                }
                let path = join(&directory, name)?;
                let is_planned = planned.contains(&path);
                if !is_planned {
                    self.out.others = self.out.others.saturating_add(1);
                    match (old, new) {
                        (Some(old), Some(new)) if same(old, new) => {}
                        (Some(_), Some(_)) => {
                            self.deviate(Some(&path), "changed and was not to change");
                        }
                        (None, Some(_)) => {
                            self.deviate(Some(&path), "is there and was not planned");
                        }
                        (Some(_), None) => self.deviate(Some(&path), "is gone and was not to go"),
                        (None, None) => {}
                    }
                }
                let is_directory = |found: Option<&Metadata>| {
                    found.is_some_and(|found| found.kind == NodeKind::Directory)
                };
                if is_directory(old) || is_directory(new) {
                    todo.push((path, is_directory(old), is_directory(new)));
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

/// The names of both, in order, and what each has under them.
fn side_by_side<'a, T>(
    before: &'a [(Vec<u8>, T)],
    after: &'a [(Vec<u8>, T)],
) -> impl Iterator<Item = (&'a [u8], Option<&'a T>, Option<&'a T>)> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (before.peek(), after.peek()) {
            (Some((old, _)), Some((new, _))) => old.cmp(new),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let old = order.is_le().then(|| before.next()).flatten();
        let new = order.is_ge().then(|| after.next()).flatten();
        let (name, _) = old.or(new)?;
        Some((&**name, old.map(|(_, it)| it), new.map(|(_, it)| it)))
    })
}

/// What a directory holds, by name.
fn entries(guest: &Guest, directory: &GuestPath) -> Result<Entries> {
    let missing =
        || Error::corrupt("no such directory").located(&Locator::default().path(directory.clone()));
    let at = guest.resolve(directory, Follow::No)?.ok_or_else(missing)?;
    let mount = guest.mounts().get(at.mount).ok_or_else(missing)?;
    let mounted: Vec<_> = guest
        .mounts()
        .iter()
        .rev()
        .filter(|mount| mount.at.parent().as_ref() == Some(directory))
        .collect();
    let mut out = Entries::new();
    for entry in mount.tree.read_dir(at.node)? {
        let metadata = match mounted
            .iter()
            .find(|mount| mount.at.name() == Some(&*entry.name))
        {
            Some(mount) => mount.tree.metadata(mount.tree.root())?,
            None => mount.tree.metadata(entry.node)?,
        };
        out.push((entry.name, metadata));
    }
    out.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(out)
}

/// Whether a node that nobody planned to change is what it was. A directory's own time and size follow its entries.
fn same(old: &Metadata, new: &Metadata) -> bool {
    let basics = |of: &Metadata| (of.node, of.kind, of.mode, of.uid, of.gid, of.device);
    basics(old) == basics(new)
        && (old.kind == NodeKind::Directory || (old.size, old.mtime) == (new.size, new.mtime))
}

struct NodeReader<'a> {
    tree: &'a dyn Tree,
    node: NodeId,
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
