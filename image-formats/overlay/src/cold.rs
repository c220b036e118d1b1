//! The proof that a disk is cold: nothing asleep or running depends on its bytes.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source};
use dormouse_disk::{ChainFile, FormatName, Image, PointInfo, PointKind, ReadLock, Role};
use dormouse_filesystem::Left;
use dormouse_volume::{DiskInput, VolumeMap, identify, volumes};

/// What is known of the machine beside the image itself. The default knows of nothing.
#[derive(Clone, Default)]
pub struct Evidence {
    /// Saved states kept outside the image, such as a managed save or a `.vmss` file, in words.
    pub saved_states: Vec<String>,
    /// The machine's other disks at the same point: a system suspended to disk may wait in swap space there.
    pub other_disks: Vec<Arc<dyn Source>>,
    /// Swap files that were found inside its filesystems.
    pub swap_files: Vec<Arc<dyn Source>>,
}

/// A disk at a restore point that may be edited in a new layer: no saved memory, no hibernated system and no running
/// machine depends on it. While it lives, programs that heed QEMU's locks cannot start writing its files.
///
/// [`ColdDisk::prove`] is the only way to one, so that the editor cannot be reached with a suspended point:
///
/// ```compile_fail,E0308
/// # use dormouse_disk::{Image, PointInfo};
/// # use dormouse_overlay::{Overlay, OverlayOptions};
/// # fn never(suspended: &PointInfo, image: Box<dyn Image>) {
/// // Neither a point nor an image is a proof.
/// let overlay = Overlay::create(suspended, "out.qcow2".as_ref(), &OverlayOptions::default());
/// # }
/// ```
///
/// ```compile_fail
/// # use dormouse_overlay::ColdDisk;
/// // Its fields are private, so it cannot be put together.
/// let forged = ColdDisk {};
/// ```
///
/// ```compile_fail,E0277
/// # use dormouse_overlay::ColdDisk;
/// fn made_from_nothing<T: Default>() {}
/// made_from_nothing::<ColdDisk>();
/// ```
///
/// ```compile_fail,E0277
/// # use dormouse_overlay::ColdDisk;
/// # use dormouse_disk::PointInfo;
/// fn converted<T: From<PointInfo>>() {}
/// converted::<ColdDisk>();
/// ```
///
/// ```compile_fail,E0277
/// # use dormouse_overlay::ColdDisk;
/// // One proof serves one overlay.
/// fn copied<T: Clone>() {}
/// copied::<ColdDisk>();
/// ```
pub struct ColdDisk {
    base: Arc<dyn Source>,
    point: PointInfo,
    files: Vec<ChainFile>,
    volumes: VolumeMap,
    /// A log that waits to be written through; what reads the disk must know how to read that.
    dirty: bool,
    _locks: Vec<ReadLock>,
}

impl ColdDisk {
    /// Proves that the point called `point` (an id or a unique name) of `image` is cold.
    ///
    /// # Errors
    /// `Denied`, naming the reason, when it holds saved memory, when `evidence` tells of a saved state, when a swap
    /// volume or file holds a hibernated system or an unread volume may hide one whose filesystems are still in use,
    /// and when a running program has locked a file of the chain; otherwise as opening the point.
    pub fn prove(image: &dyn Image, point: &str, evidence: &Evidence) -> Result<Self> {
        let point = image.point(point)?.clone();
        let denied = |why: String| {
            Err(Error::denied(format!(
                "restore point {} must not be changed: {why}",
                point.id
            )))
        };
        if let Some(bytes) = point.memory {
            return denied(format!(
                "the machine is suspended, {bytes} bytes of its memory are saved with it"
            ));
        }
        if point.kind == PointKind::Active && image.state().suspended {
            return denied(
                "the image says that the machine is suspended, its memory saved beside it"
                    .to_owned(),
            );
        }
        if let Some(state) = evidence.saved_states.first() {
            return denied(format!("the machine is suspended: {state}"));
        }
        // From here on nobody who heeds the locks can start the machine.
        let locks = image.chain().lock()?;
        let base = image.open_point(&point.id)?;
        let map = volumes(&disks(&base, evidence));
        if let Some(asleep) = hibernated(&map) {
            return denied(format!("{asleep} holds a hibernated system"));
        }
        if let Some(why) = windows_asleep(&map) {
            return denied(why);
        }
        for file in &evidence.swap_files {
            if identify(&**file)?.is_some_and(|content| content.hibernated) {
                return denied("a swap file holds a hibernated system".to_owned());
            }
        }
        if let Some((filesystem, hidden)) = may_hide_sleeper(&map) {
            return denied(format!(
                "the filesystem in {filesystem} was not unmounted, and {hidden}, which is not read, may hold the \
                 hibernated system that uses it"
            ));
        }
        Ok(Self {
            base,
            point,
            files: image.files().to_vec(),
            volumes: map,
            dirty: image.state().dirty,
            _locks: locks,
        })
    }

    /// The restore point.
    #[must_use]
    pub fn point(&self) -> &PointInfo {
        &self.point
    }

    /// Every host file that it consists of, the image itself first.
    #[must_use]
    pub fn files(&self) -> &[ChainFile] {
        &self.files
    }

    /// Its bytes.
    #[must_use]
    pub fn base(&self) -> &Arc<dyn Source> {
        &self.base
    }

    /// The volumes of this disk (`disk0`) and of the machine's other disks, as they were when it was proved cold.
    #[must_use]
    pub fn volumes(&self) -> &VolumeMap {
        &self.volumes
    }

    /// Why QEMU could not read the disk below a layer over it, though we can.
    pub(crate) fn unreadable_below(&self) -> Option<String> {
        let format = self.files.first()?.format;
        let layered = self
            .files
            .iter()
            .skip(1)
            .any(|file| file.role == Role::Backing);
        match format {
            FormatName::VHD | FormatName::VHDX | FormatName::VDI if layered => {
                Some(format!("QEMU reads no {format} that is a layer itself"))
            }
            FormatName::PARALLELS if self.files.len() > 1 => {
                Some("QEMU reads no Parallels disk of several files".to_owned())
            }
            FormatName::VHDX if self.dirty => {
                Some("QEMU reads no VHDX whose log was not written through".to_owned())
            }
            _ => None,
        }
    }

    /// Which of its files is encrypted: nothing that is written here ever is.
    pub(crate) fn encrypted(&self) -> Option<String> {
        self.files.iter().find_map(|file| {
            let how = file.encryption.as_ref()?;
            Some(format!("{} is encrypted with {how}", file.path.display()))
        })
    }

    /// Whether a new layer over it can name the image file as its backing file: only the active state can be named so.
    pub(crate) fn is_active(&self) -> bool {
        self.point.kind == PointKind::Active
    }
}

fn disks(base: &Arc<dyn Source>, evidence: &Evidence) -> Vec<DiskInput> {
    std::iter::once(base)
        .chain(&evidence.other_disks)
        .enumerate()
        .map(|(number, source)| DiskInput::new(format!("disk{number}"), source.clone()))
        .collect()
}

/// The volume that holds a hibernated system.
fn hibernated(map: &VolumeMap) -> Option<&str> {
    map.volumes
        .iter()
        .find(|volume| {
            volume
                .info
                .content
                .as_ref()
                .is_some_and(|content| content.hibernated)
        })
        .map(|volume| volume.info.name.as_str())
}

/// Why a filesystem of Windows says that its memory lies in one of its files. One that cannot be opened has no editor
/// either.
fn windows_asleep(map: &VolumeMap) -> Option<String> {
    let ntfs = |volume: &&dormouse_volume::Volume| {
        let content = volume.info.content.as_ref();
        content.is_some_and(|content| content.kind == "ntfs")
    };
    map.volumes.iter().filter(ntfs).find_map(|volume| {
        let tree = dormouse_filesystem::open(&volume.source).ok()??;
        match tree.left() {
            Left::Hibernated(why) => Some(format!("{}: {why}", volume.info.name)),
            _ => None,
        }
    })
}

/// A filesystem that is still in use, and a volume in which whoever uses it may sleep: one whose inside is not seen
/// here, such as encrypted space or a part of a volume group. A filesystem that was unmounted has no user.
fn may_hide_sleeper(map: &VolumeMap) -> Option<(&str, String)> {
    const OPAQUE: [&str; 5] = ["LVM2_member", "LVM1_member", "crypto_LUKS", "bcache", "vdo"];
    let used = map.volumes.iter().find(|volume| {
        let content = volume.info.content.as_ref();
        content.is_some_and(|content| content.unclean)
    })?;
    let opaque = map
        .volumes
        .iter()
        .find(|volume| match &volume.info.content {
            Some(content) => {
                OPAQUE.contains(&content.kind.as_str()) || content.kind.ends_with("_raid_member")
            }
            None => volume.info.may_hold_packages(),
        });
    let hidden = opaque
        .map(|volume| volume.info.name.clone())
        .or_else(|| Some(map.gaps.first()?.at.to_string()))?;
    Some((&used.info.name, hidden))
}
