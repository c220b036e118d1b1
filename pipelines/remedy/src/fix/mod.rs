//! Fixes of a baseline carried out on a draft: edits of files that no package brings.
//!
//! A fix is made whole or not at all. What edits would change is found out by the same code that judges whether a fix is
//! relevant, so a machine that is judged afresh has no such finding. Fixes come after packages: an edit of a conffile stands
//! over what the package brought, and later upgrades find it as they find an administrator's.

mod owner;
mod script;

use std::collections::{BTreeMap, BTreeSet};

use dormouse_advisories::Severity;
use dormouse_block::{Error, ErrorKind, GuestPath, Locator, Result};
use dormouse_filesystem::Time;
use dormouse_overlay::{Attributes, Content, Draft, DraftNode, Drafted};
use dormouse_packages::edit::{Body, Change, Edit, Ground, Node, rehearse};
use dormouse_packages::{NodeKind, TouchedPath};
use dormouse_policy::Fix;
use serde::{Deserialize, Serialize};

pub use script::{FIX_FUNCTIONS, fix_script};

/// The label that SELinux reads; a new file has that of its directory.
const SELINUX: &[u8] = b"security.selinux";
/// Powers of a program's file, which go when its bytes or its owner change, as they do on a running machine.
const CAPABILITY: &[u8] = b"security.capability";
/// An access list, which a mode is a part of.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// A fix of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedFix {
    /// Its id in the baseline.
    pub id: String,
    /// What it mends.
    pub title: String,
    /// What asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// How bad it is where it is not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What makes it, in order.
    pub edits: Vec<Edit>,
    /// What becomes of it, once it has been tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<FixOutcome>,
    /// What there is to know of the paths that it changes, likewise, one clause each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl From<&Fix> for PlannedFix {
    fn from(fix: &Fix) -> Self {
        Self {
            id: fix.id.clone(),
            title: fix.title.clone(),
            references: fix.references.clone(),
            severity: fix.severity,
            edits: fix.edits.clone(),
            outcome: None,
            notes: Vec::new(),
        }
    }
}

/// What becomes of a fix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", deny_unknown_fields)]
pub enum FixOutcome {
    /// It is made.
    Made,
    /// All is so already, by a package of the plan or a fix before it.
    Unneeded,
    /// It cannot be made, and nothing of it is.
    Refused {
        /// Why, in one clause.
        why: String,
    },
}

/// What became of a fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InjectedFix {
    /// Its id in the baseline.
    pub id: String,
    /// What it mends.
    pub title: String,
    /// What asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// What became of it.
    pub outcome: FixOutcome,
    /// What it changed, by path free of links, with what stood there after the packages were unpacked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<TouchedPath>,
    /// What there is to know of these paths, one clause each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Makes the fixes of a plan, one after the other; one that cannot be made leaves nothing behind.
///
/// # Errors
/// What reading the guest returns.
pub(crate) fn make_all(
    fixes: &[PlannedFix],
    draft: &mut Draft,
    now: Time,
) -> Result<Vec<InjectedFix>> {
    let mut made: Vec<InjectedFix> = Vec::new();
    for (nth, fix) in fixes.iter().enumerate() {
        let before = draft.savepoint();
        let tried = make(fix, draft, now).and_then(|paths| {
            let earlier = fixes.iter().take(nth).zip(&made);
            let is_refused =
                |made: &InjectedFix| matches!(made.outcome, FixOutcome::Refused { .. });
            let earlier = earlier.filter(|(_, made)| !is_refused(made));
            for one in earlier.map(|(one, _)| one).chain([fix]) {
                hold(one, fix, draft)?;
            }
            Ok(paths)
        });
        let (outcome, paths) = match tried {
            Ok(paths) if paths.is_empty() => (FixOutcome::Unneeded, paths),
            Ok(paths) => (FixOutcome::Made, paths),
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) => {
                return Err(error);
            }
            Err(error) => {
                draft.go_back(before);
                let why = error.with_causes();
                (FixOutcome::Refused { why }, Vec::new())
            }
        };
        made.push(InjectedFix {
            id: fix.id.clone(),
            title: fix.title.clone(),
            references: fix.references.clone(),
            outcome,
            paths,
            notes: Vec::new(),
        });
    }
    note_owners(draft, &mut made)?;
    Ok(made)
}

/// Refuses `new` where a fix does not hold after it.
fn hold(one: &PlannedFix, new: &PlannedFix, draft: &Draft) -> Result<()> {
    let path = match with_ground(draft, |ground| rehearse(ground, &one.edits)) {
        Ok(changes) => match changes.into_iter().next() {
            None => return Ok(()),
            Some(change) => change.path,
        },
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) => {
            return Err(error);
        }
        // It was made, and cannot even be made any more.
        Err(error) => match error.locator().path.clone() {
            Some(path) => path,
            None => return Err(error),
        },
    };
    let why = if one.id == new.id {
        "what is set there is not kept by its filesystem".to_owned()
    } else {
        format!("it undoes the fix {}", one.id)
    };
    Err(Error::denied(why).located(&Locator::default().path(path)))
}

fn with_ground<T>(draft: &Draft, ask: impl FnOnce(&Ground<'_>) -> Result<T>) -> Result<T> {
    let look =
        |path: &GuestPath| -> Result<Option<Node>> { Ok(draft.at(path)?.map(|at| node(&at))) };
    let read = |path: &GuestPath, most: u64| -> Result<Vec<u8>> {
        let bytes = draft.read(path, most)?;
        bytes.ok_or_else(|| Error::corrupt("the file is there and cannot be read"))
    };
    ask(&Ground {
        look: &look,
        read: &read,
    })
}

fn node(at: &Drafted) -> Node {
    let body = match &at.node {
        DraftNode::File(content) => Body::File {
            size: content.size(),
            bytes: None,
        },
        DraftNode::Directory => Body::Directory,
        DraftNode::Symlink(target) => Body::Symlink(target.clone()),
        DraftNode::Special(kind, _) => Body::Other(*kind),
    };
    Node {
        body,
        mode: at.attributes.mode,
        uid: at.attributes.uid,
        gid: at.attributes.gid,
    }
}

/// Makes one fix, and says what that changed.
fn make(fix: &PlannedFix, draft: &mut Draft, now: Time) -> Result<Vec<TouchedPath>> {
    let (changes, paths) = with_ground(draft, |ground| {
        let changes = rehearse(ground, &fix.edits)?;
        let paths: Result<Vec<_>> = changes
            .iter()
            .map(|change| TouchedPath::of(ground, change))
            .collect();
        Ok((changes, paths?))
    })?;
    for change in &changes {
        carry_out(change, draft, now)
            .map_err(|error| error.located(&Locator::default().path(change.path.clone())))?;
    }
    Ok(paths)
}

fn carry_out(change: &Change, draft: &mut Draft, now: Time) -> Result<()> {
    let path = &change.path;
    let Some(after) = &change.after else {
        return draft.remove(path);
    };
    let standing = draft.at(path)?;
    let attributes = |mtime: Time, xattrs: BTreeMap<Vec<u8>, Vec<u8>>| Attributes {
        mode: after.mode,
        uid: after.uid,
        gid: after.gid,
        mtime,
        xattrs,
    };
    let same_kind = standing
        .as_ref()
        .filter(|standing| standing.node.kind() == after.body.kind());
    let mut xattrs = match same_kind {
        Some(standing) => standing.attributes.xattrs.clone(),
        None => label_of_parent(draft, path)?,
    };
    if let Some(standing) = same_kind {
        if standing.attributes.mode != after.mode && xattrs.contains_key(ACCESS_LIST) {
            return Err(Error::unsupported(
                "its mode is part of an access list, which is not edited",
            ));
        }
        let owner = (standing.attributes.uid, standing.attributes.gid);
        let new_bytes = matches!(after.body, Body::File { bytes: Some(_), .. });
        if standing.node.kind() == NodeKind::File && (new_bytes || owner != (after.uid, after.gid))
        {
            xattrs.remove(CAPABILITY);
        }
    }
    match &after.body {
        Body::File {
            bytes: Some(bytes), ..
        } => draft.put(
            path,
            DraftNode::File(Content::bytes(bytes.clone())),
            attributes(now, xattrs),
        ),
        Body::Symlink(target) => draft.put(
            path,
            DraftNode::Symlink(target.clone()),
            attributes(now, xattrs),
        ),
        Body::Directory if standing.is_none() => {
            draft.put(path, DraftNode::Directory, attributes(now, xattrs))
        }
        Body::File { bytes: None, .. } | Body::Directory => {
            let mtime = standing.map_or(now, |standing| standing.attributes.mtime);
            draft.set_attributes(path, attributes(mtime, xattrs))
        }
        Body::Other(_) => Err(Error::denied("a device, pipe or socket is never made")),
    }
}

/// The label of the directory that a new node comes into.
fn label_of_parent(draft: &Draft, path: &GuestPath) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let Some(parent) = path.parent() else {
        return Ok(BTreeMap::new());
    };
    let parent = draft.at(&parent)?;
    let label = parent.and_then(|parent| parent.attributes.xattrs.get(SELINUX).cloned());
    Ok(label
        .map(|label| (SELINUX.to_vec(), label))
        .into_iter()
        .collect())
}

/// Notes which of the changed files packages own, as far as dpkg says.
fn note_owners(draft: &Draft, made: &mut [InjectedFix]) -> Result<()> {
    let paths: BTreeSet<GuestPath> = made
        .iter()
        .flat_map(|fix| fix.paths.iter().map(|touched| touched.path.clone()))
        .collect();
    if paths.is_empty() {
        return Ok(());
    }
    let notes = owner::notes(draft, &paths)?;
    for fix in made {
        let own = fix
            .paths
            .iter()
            .filter_map(|touched| notes.get(&touched.path));
        fix.notes = own.flatten().cloned().collect();
    }
    Ok(())
}
