//! All volumes of a machine's disks.

use std::sync::Arc;

use dormouse_block::{Error, Gap, Locator, Result, Source, window};
use serde::{Deserialize, Serialize};

use crate::{Identified, Keys, PartitionInfo, Placement, SYSTEMS, identify};

/// Volumes of one machine: more than any machine has, few enough to list.
pub(crate) const MAX_VOLUMES: usize = 4096;
/// Layers of volume systems on one another: partition, RAID, encryption, volume group, and room to spare.
const MAX_LAYERS: u8 = 8;
/// Findings of volume systems, each of which divides or joins something: a bound on work, far above any machine's.
const MAX_FINDINGS: usize = 512;

/// A disk of the machine.
#[derive(Clone)]
pub struct DiskInput {
    /// Its name within the machine, such as `disk0`.
    pub name: String,
    /// Its bytes.
    pub source: Arc<dyn Source>,
    /// Bytes of a logical sector, when the image format or the machine's description says; found out otherwise.
    pub sector_size: Option<u32>,
}

impl DiskInput {
    /// A disk whose sector size is to be found out.
    pub fn new(name: impl Into<String>, source: Arc<dyn Source>) -> Self {
        Self {
            name: name.into(),
            source,
            sector_size: None,
        }
    }
}

/// A volume: where a filesystem, or something else, may be.
#[derive(Clone)]
pub struct Volume {
    /// What is known of it, as a fact.
    pub info: VolumeInfo,
    /// Its bytes.
    pub source: Arc<dyn Source>,
    /// Where they stand on the machine's disks.
    pub placement: Placement,
    /// Bytes of a logical sector of the disk below, when known.
    pub(crate) sector_size: Option<u32>,
    /// Volume systems below it.
    pub(crate) depth: u8,
    /// No volume system looks at it again: one has said all there is to say.
    pub(crate) settled: bool,
}

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VolumeInfo {
    /// Unique within the machine: `disk0/gpt2`, `disk0/mbr5`, `disk0` for a disk without partitions, `lvm/VG/LV`,
    /// `md/NAME`, `disk0/gpt3/luks`.
    pub name: String,
    /// The disk (or the volume) in which it lies, the first of them where it is spread over several.
    pub parent: String,
    /// Where it begins there, in bytes.
    pub start: u64,
    /// Bytes that can be read: fewer than its table says when `truncated`.
    pub size: u64,
    /// The volume system that it belongs to: `disk`, `gpt`, `mbr`, `lvm`, `md`, `luks`.
    pub system: String,
    /// How that lays it out, where there are several ways: `linear`, `striped`, `raid1`, `thin`, `LUKS2`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// The volume whose earlier state it keeps, when it is a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_of: Option<String>,
    /// Device files by which its guest knows it beside those of partitions, such as `/dev/mapper/vg-root`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_names: Vec<String>,
    /// Its entry in a partition table.
    pub partition: Option<PartitionInfo>,
    /// What its first bytes say it holds; `None` when nothing known.
    pub content: Option<Identified>,
    /// It goes beyond the end of its disk.
    pub truncated: bool,
    /// The image format shows that it holds nothing but zeroes.
    pub blank: bool,
}

impl VolumeInfo {
    /// Whether a volume like this, if it is not read, may hide installed packages. Swap, boot loaders' areas and
    /// filesystems that cannot hold a Unix system cannot; the unknown may.
    #[must_use]
    pub fn may_hold_packages(&self) -> bool {
        if self.blank {
            return false;
        }
        match &self.content {
            Some(content) => content.may_hold_packages,
            None => self
                .partition
                .as_ref()
                .is_none_or(PartitionInfo::may_hold_packages),
        }
    }
}

/// Something odd that hides nothing, such as a broken backup of a sound partition table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Note {
    /// What it concerns.
    pub at: Locator,
    /// In one lower-case clause.
    pub what: String,
}

/// The volumes of a machine.
#[derive(Default)]
pub struct VolumeMap {
    /// Every volume that is not divided further, in the order of the disks and their tables.
    pub volumes: Vec<Volume>,
    /// What is broken or not read.
    pub gaps: Vec<Gap>,
    /// What is odd, and hides nothing.
    pub notes: Vec<Note>,
}

impl Volume {
    /// A disk as a volume of its own.
    pub(crate) fn whole(disk: &DiskInput) -> Self {
        Self {
            info: VolumeInfo {
                name: disk.name.clone(),
                parent: disk.name.clone(),
                start: 0,
                size: disk.source.len(),
                system: "disk".to_owned(),
                layout: None,
                snapshot_of: None,
                device_names: Vec::new(),
                partition: None,
                content: None,
                truncated: false,
                blank: false,
            },
            source: disk.source.clone(),
            placement: Placement::disk(&disk.name, disk.source.len()),
            sector_size: disk.sector_size,
            depth: 0,
            settled: false,
        }
    }

    /// Whether it is a disk or, like one to its guest, an array: a partition table may stand on it.
    pub(crate) fn is_disk(&self) -> bool {
        self.info.system == "disk" || self.info.system == "md"
    }

    /// A volume that a system makes of others: `name` of it, on `parent` among them.
    pub(crate) fn made(
        system: &'static str,
        name: String,
        parent: &Self,
        source: Arc<dyn Source>,
        placement: Placement,
    ) -> Self {
        Self {
            info: VolumeInfo {
                name,
                parent: parent.info.name.clone(),
                start: 0,
                size: source.len(),
                system: system.to_owned(),
                layout: None,
                snapshot_of: None,
                device_names: Vec::new(),
                partition: None,
                content: None,
                truncated: false,
                blank: false,
            },
            source,
            placement,
            sector_size: None,
            depth: parent.depth.saturating_add(1),
            settled: false,
        }
    }

    /// Whether a volume system has said, by a gap or a note, why it goes no further.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// The same, at which no volume system looks again.
    pub(crate) fn settled(&self) -> Self {
        Self {
            settled: true,
            ..self.clone()
        }
    }

    /// The part of it that a partition table calls `name`, cut at the end of the disk.
    pub(crate) fn part(
        &self,
        system: &'static str,
        start: u64,
        size: u64,
        partition: PartitionInfo,
    ) -> Result<Self> {
        let name = format!("{}/{system}{}", self.info.name, partition.number);
        let there = self.source.len().saturating_sub(start);
        if there == 0 || size == 0 {
            return Err(Error::corrupt(format!(
                "the partition lies beyond the end of the disk, which has {} bytes",
                self.source.len()
            ))
            .at_offset(start)
            .located(&Locator::default().volume(name)));
        }
        let readable = size.min(there);
        let source: Arc<dyn Source> = Arc::new(window(self.source.clone(), start, readable)?);
        let placement = self.placement.part(start, readable);
        Ok(Self {
            info: VolumeInfo {
                parent: self.info.name.clone(),
                start,
                size: readable,
                system: system.to_owned(),
                layout: None,
                snapshot_of: None,
                device_names: Vec::new(),
                partition: Some(partition),
                content: None,
                truncated: size > there,
                blank: false,
                name,
            },
            source,
            placement,
            sector_size: self.sector_size,
            depth: self.depth.saturating_add(1),
            settled: false,
        })
    }

    pub(crate) fn locator(&self) -> Locator {
        Locator::default().volume(self.info.name.clone())
    }

    /// Fills in what it holds. An unreadable beginning is a gap like any other.
    fn look_inside(&mut self, gaps: &mut Vec<Gap>) {
        if self.info.content.is_some() {
            return;
        }
        match identify(&*self.source) {
            Ok(content) => self.info.content = content,
            Err(error) => gaps.push(Gap::from_error(&error, &self.locator())),
        }
        if self.info.content.is_none() {
            self.info.blank = matches!(self.source.next_data(0), Ok(None));
        }
    }
}

/// Finds the volumes of all `disks` of a machine. What cannot be read becomes a gap; nothing here fails as a whole.
/// What is encrypted stays locked; [`volumes_with_keys`] opens it.
#[must_use]
pub fn volumes(disks: &[DiskInput]) -> VolumeMap {
    volumes_with_keys(disks, &Keys::default())
}

/// Finds the volumes of all `disks` of a machine, those too that one of `keys` unlocks.
#[must_use]
pub fn volumes_with_keys(disks: &[DiskInput], keys: &Keys) -> VolumeMap {
    let mut map = VolumeMap::default();
    let mut leaves: Vec<Volume> = disks.iter().map(Volume::whole).collect();
    // Volumes may lie on one another in any order. So whenever a system has found something, all are asked again, the
    // lower ones first: a volume group is put together when no array, partition or encrypted volume is left to find.
    for _ in 0..MAX_FINDINGS {
        let (open, done): (Vec<Volume>, Vec<Volume>) = leaves
            .into_iter()
            .partition(|volume| !volume.settled && volume.depth < MAX_LAYERS);
        leaves = done;
        let finding = SYSTEMS
            .iter()
            .map(|system| system.find(&open, keys))
            .find(|found| !found.claimed.is_empty());
        let Some(found) = finding else {
            leaves.extend(open);
            break;
        };
        map.gaps.extend(found.gaps);
        map.notes.extend(found.notes);
        let kept = open
            .into_iter()
            .enumerate()
            .filter(|(position, _)| !found.claimed.contains(position))
            .map(|(_, volume)| volume);
        leaves.extend(kept);
        leaves.extend(found.volumes);
    }
    if leaves.len() > MAX_VOLUMES {
        let error = Error::limit(format!(
            "{} volumes are more than the {MAX_VOLUMES} allowed",
            leaves.len()
        ));
        map.gaps.push(Gap::from_error(&error, &Locator::default()));
        leaves.truncate(MAX_VOLUMES);
    }
    let order = |volume: &Volume| {
        let root = volume.info.name.split('/').next().unwrap_or_default();
        let disk = disks.iter().position(|disk| disk.name == root);
        // What is put together of several disks comes after them, by its name.
        match disk {
            Some(disk) => (disk, String::new()),
            None => (usize::MAX, volume.info.name.clone()),
        }
    };
    // Stable: within a disk the order of its table stays.
    leaves.sort_by_cached_key(order);
    for leaf in &mut leaves {
        leaf.look_inside(&mut map.gaps);
    }
    map.volumes = leaves;
    map
}
