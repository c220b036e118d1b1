//! The editors, by the kind of filesystem that they change.

use std::sync::Arc;

use dormouse_block::Result;
use dormouse_filesystem::Time;

use crate::ext::{self, Ext4Editor};
use crate::fat::FatEditor;
use crate::{Device, Editor};

/// An editor that any worker may use.
pub type AnyEditor = Box<dyn Editor + Send>;

/// A kind of filesystem that can be edited.
pub struct EditorKind {
    /// Kinds as [`FilesystemInfo::kind`](dormouse_filesystem::FilesystemInfo::kind) names them.
    pub kinds: &'static [&'static str],
    /// Opens the filesystem on a device; changes that have no time of their own get this one.
    pub open: fn(Arc<dyn Device>, Time) -> Result<AnyEditor>,
}

/// The filesystems that can be edited.
pub const EDITORS: &[EditorKind] = &[
    EditorKind {
        kinds: &["ext2", "ext3", "ext4"],
        open: |device, now| Ok(Box::new(Ext4Editor::open(device, ext::Options { now })?)),
    },
    EditorKind {
        kinds: &["vfat"],
        open: |device, _| Ok(Box::new(FatEditor::open(device)?)),
    },
];

/// Opens the editor of a filesystem of `kind`; `None` for kinds that cannot be edited.
///
/// # Errors
/// As the editor's own `open`: `Unsupported`, `Denied`, `Limit` or `Corrupt`, by name.
pub fn open_editor(kind: &str, device: Arc<dyn Device>, now: Time) -> Result<Option<AnyEditor>> {
    let found = EDITORS.iter().find(|editor| editor.kinds.contains(&kind));
    found.map(|editor| (editor.open)(device, now)).transpose()
}
