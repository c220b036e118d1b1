//! A draft's differences carried out on filesystems.

use std::collections::BTreeMap;
use std::io::Read;

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Follow, Guest, NodeKind};

use crate::{Content, Difference, DraftNode, Editor, Staged, room};

/// Where the bytes of a file come from.
pub enum Supply<'a> {
    /// An editor has written them already.
    Staged(Staged),
    /// They are read now.
    Reader(Box<dyn Read + 'a>),
}

/// What was carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Names removed.
    pub removed: u64,
    /// Nodes put, further names of them included.
    pub put: u64,
    /// Nodes that only got other attributes.
    pub attributes: u64,
    /// Bytes of the files put.
    pub bytes: u64,
}

/// Carries `differences` from `guest` out on `editors`, one for each of its mounts in their order; `None` for a mount
/// that cannot be edited. What will not fit is refused before anything is written.
///
/// # Errors
/// `Limit` when there is too little room, `Unsupported` for a change on a mount without an editor, and what editors
/// and `supply` return. The overlay is to be dropped then.
pub fn apply<'s>(
    guest: &Guest,
    differences: &BTreeMap<GuestPath, Difference>,
    editors: &mut [Option<&mut dyn Editor>],
    supply: &mut dyn FnMut(usize, &Content) -> Result<Supply<'s>>,
) -> Result<Applied> {
    room::check(guest, differences, editors)?;
    let mut job = Job {
        guest,
        editors,
        applied: Applied::default(),
    };
    for (path, difference) in differences.iter().rev() {
        job.clear(path, difference)
            .map_err(|error| at(path, error))?;
    }
    for (path, difference) in differences {
        job.put(path, difference, supply)
            .map_err(|error| at(path, error))?;
    }
    Ok(job.applied)
}

fn at(path: &GuestPath, error: Error) -> Error {
    error.located(&Locator::default().path(path.clone()))
}

struct Job<'a, 'e> {
    guest: &'a Guest,
    editors: &'a mut [Option<&'e mut dyn Editor>],
    applied: Applied,
}

impl Job<'_, '_> {
    fn editor(&mut self, mount: usize) -> Result<&mut dyn Editor> {
        match self.editors.get_mut(mount) {
            Some(Some(editor)) => Ok(&mut **editor),
            _ => Err(Error::unsupported(
                "the filesystem that holds it cannot be edited",
            )),
        }
    }

    /// Removes what is gone, and what a node of another kind takes the place of.
    fn clear(&mut self, path: &GuestPath, difference: &Difference) -> Result<()> {
        let gone = match difference {
            Difference::Removed => true,
            Difference::Attributes(_) => false,
            Difference::Put { node, .. } => {
                let base = self.guest.resolve(path, Follow::No)?;
                let base = base.filter(|found| found.path == *path);
                match base.and_then(|found| Some((self.guest.mounts().get(found.mount)?, found))) {
                    Some((mount, found)) => {
                        let was = mount.tree.metadata(found.node)?.kind == NodeKind::Directory;
                        was != (node.kind() == NodeKind::Directory)
                    }
                    None => false,
                }
            }
        };
        if !gone {
            return Ok(());
        }
        let (mount, inner) = self.guest.mount_of(path);
        self.applied.removed = self.applied.removed.saturating_add(1);
        self.editor(mount)?.remove(&inner)
    }

    fn put<'s>(
        &mut self,
        path: &GuestPath,
        difference: &Difference,
        supply: &mut dyn FnMut(usize, &Content) -> Result<Supply<'s>>,
    ) -> Result<()> {
        let (mount, inner) = self.guest.mount_of(path);
        let (node, attributes, link_to) = match difference {
            Difference::Removed => return Ok(()),
            Difference::Attributes(attributes) => {
                self.applied.attributes = self.applied.attributes.saturating_add(1);
                return self.editor(mount)?.set_attributes(&inner, attributes);
            }
            Difference::Put {
                node,
                attributes,
                link_to,
            } => (node, attributes, link_to),
        };
        self.applied.put = self.applied.put.saturating_add(1);
        if let Some(existing) = link_to {
            let (other, existing) = self.guest.mount_of(existing);
            if other == mount {
                return self.editor(mount)?.link(&existing, &inner);
            }
        }
        match node {
            DraftNode::Directory => self.editor(mount)?.make_directory(&inner, attributes),
            DraftNode::Symlink(target) => {
                self.editor(mount)?.put_symlink(&inner, attributes, target)
            }
            DraftNode::Special(kind, device) => self
                .editor(mount)?
                .put_special(&inner, attributes, *kind, *device),
            DraftNode::File(content) => {
                let size = content.size();
                self.applied.bytes = self.applied.bytes.saturating_add(size);
                let supplied = supply(mount, content)?;
                let editor = self.editor(mount)?;
                match supplied {
                    Supply::Staged(staged) => editor.put_staged(&inner, attributes, staged),
                    Supply::Reader(mut reader) => {
                        editor.put_file(&inner, attributes, size, &mut reader)
                    }
                }
            }
        }
    }
}
