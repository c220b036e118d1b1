//! What edits would change of a guest.

use dormouse_block::{Digest, Error, ErrorKind, GuestPath, Result};
use dormouse_filesystem::{Follow, Guest, Metadata, NodeKind};
use serde::{Deserialize, Serialize};

use super::Observed;
use crate::Mode;
use crate::edit::{Body, Change, Edit, Ground, MAX_WHOLE, Node, rehearse};

/// A path that edits change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TouchedPath {
    /// The path, free of links.
    pub path: GuestPath,
    /// What stands there; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<TouchedState>,
    /// What is to stand there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<TouchedState>,
}

/// What stands at a path before or after edits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TouchedState {
    /// What it is.
    pub kind: NodeKind,
    /// Its mode.
    pub mode: Mode,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The digest of a file's bytes, where edits change them, or of a link's target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl TouchedPath {
    /// What a change is, as a fact.
    ///
    /// # Errors
    /// What reading the bytes of what stands there returns.
    pub fn of(ground: &Ground<'_>, change: &Change) -> Result<Self> {
        // Bytes that stay are not read for it.
        let same_bytes = matches!(
            change.after.as_ref().map(|node| &node.body),
            Some(Body::File { bytes: None, .. })
        );
        let state = |node: &Node| -> Result<TouchedState> {
            let digest = match &node.body {
                Body::File {
                    bytes: Some(bytes), ..
                } => Some(Digest::of(bytes)),
                Body::File { bytes: None, .. } if !same_bytes => {
                    Some(Digest::of((ground.read)(&change.path, MAX_WHOLE)?))
                }
                Body::Symlink(target) => Some(Digest::of(target)),
                _ => None,
            };
            Ok(TouchedState {
                kind: node.body.kind(),
                mode: Mode::new(node.mode),
                uid: node.uid,
                gid: node.gid,
                digest,
            })
        };
        Ok(Self {
            path: change.path.clone(),
            before: change.before.as_ref().map(state).transpose()?,
            after: change.after.as_ref().map(state).transpose()?,
        })
    }
}

pub(super) fn answer(guest: &Guest, edits: &[Edit]) -> Result<Observed> {
    let look = |path: &GuestPath| -> Result<Option<Node>> {
        let found = guest.metadata(path, Follow::No)?;
        found.map(|found| node(guest, path, &found)).transpose()
    };
    let read = |path: &GuestPath, most: u64| -> Result<Vec<u8>> {
        let bytes = guest.read(path, most)?;
        bytes.ok_or_else(|| Error::corrupt("the file is there and cannot be read"))
    };
    let ground = Ground {
        look: &look,
        read: &read,
    };
    let changes = match rehearse(&ground, edits) {
        Ok(changes) => changes,
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) => {
            return Err(error);
        }
        Err(error) => {
            return Ok(Observed::Refused {
                why: error.with_causes(),
            });
        }
    };
    let paths = changes
        .iter()
        .map(|change| TouchedPath::of(&ground, change));
    Ok(Observed::Edits {
        paths: paths.collect::<Result<_>>()?,
    })
}

fn node(guest: &Guest, path: &GuestPath, found: &Metadata) -> Result<Node> {
    let body = match found.kind {
        NodeKind::File => Body::File {
            size: found.size,
            bytes: None,
        },
        NodeKind::Directory => Body::Directory,
        NodeKind::Symlink => Body::Symlink(guest.read_link(path)?.unwrap_or_default()),
        kind => Body::Other(kind),
    };
    Ok(Node {
        body,
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
    })
}
