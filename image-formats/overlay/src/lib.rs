//! The only code that changes guest bytes: copy-on-write overlays and filesystem editors.
//!
//! Changes are described first, in a [`Draft`]: the guest as it will be, over the guest as it is. They reach bytes only
//! through an [`Editor`] on an [`Overlay`] ([`apply()`] carries them there), and an overlay exists only for a
//! [`ColdDisk`]: a disk on which no saved memory, hibernation image or running owner depends. The base is never opened
//! for writing; dropping the overlay undoes everything.

mod appender;
mod apply;
mod cold;
mod device;
mod draft;
mod editor;
mod editors;
pub mod ext;
pub mod fat;
mod iso;
mod layer;
mod layout;
mod output;
mod overlay;
mod room;

pub use apply::{Applied, Supply, apply};
pub use cold::{ColdDisk, Evidence};
pub use device::{Device, DeviceRanges, DeviceWindow};
pub use draft::{
    Content, Difference, Draft, DraftNode, Drafted, Identity, PayloadReader, Savepoint,
};
pub use editor::{Attributes, Editor, Staged};
pub use editors::{AnyEditor, EDITORS, EditorKind, open_editor};
pub use iso::{IsoFile, write_iso};
pub use output::{Container, Pack, Spread, serially};
pub use overlay::{Existing, Output, Overlay, OverlayOptions, Packing, Published};
pub use room::Room;
