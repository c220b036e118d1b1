//! qcow2, versions 2 and 3, after QEMU's `docs/interop/qcow2.txt`.
//!
//! Read: clusters of 512 bytes to 2 MiB, zlib and zstd compressed clusters, zero clusters, subclusters (extended L2
//! entries), external data files, backing chains, internal snapshots with their own L1 tables and disk sizes, and the
//! saved state of a machine behind the end of a snapshot's disk; with a key, data encrypted with LUKS or with legacy AES.
//! Listed: dirty bitmaps. Passed over: unknown compatible and autoclear features, unknown header extensions. Refused by name:
//! the corrupt mark, and unknown incompatible features.

mod bitmaps;
mod header;
mod map;
mod snapshots;

use std::ops::Range;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source};

use self::header::{Encryption, Header, L1};
use self::map::Map;
use self::snapshots::Snapshot;
use crate::encryption::{DataCipher, Sealed, locked};
use crate::image::no_point;
use crate::mapped::{Below, Locate, Mapped};
use crate::units::FileUnits;
use crate::{
    ACTIVE, Bitmap, Chain, Format, FormatName, Image, OpenFile, Opener, PointInfo, PointKind,
    Probe, Role, State, Timestamp,
};

/// The format.
pub(crate) struct Qcow2;

impl Format for Qcow2 {
    fn name(&self) -> FormatName {
        FormatName::QCOW2
    }

    fn probe(&self, probe: &Probe<'_>) -> bool {
        probe.starts_with_at(0, b"QFI\xfb\0\0\0\x02")
            || probe.starts_with_at(0, b"QFI\xfb\0\0\0\x03")
    }

    fn open(&self, file: OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        let header = Header::read(&*file.source)?;
        let snapshots = snapshots::read(&*file.source, &header)?;
        let bitmaps = bitmaps::read(&*file.source, &header)?;
        let mut chain = file.chain(FormatName::QCOW2);
        if let Some(encryption) = header.encryption {
            chain = chain.encrypted(encryption.as_str());
        }
        let data = match &header.data_file {
            Some(name) => {
                let data = opener.open_part(&file, name, Role::DataFile)?;
                chain.extend(&data.chain(FormatName::RAW));
                data.source
            }
            None => file.source.clone(),
        };
        let backing = match &header.backing {
            Some(backing) => {
                // Without a recorded format QEMU guesses. So do we, from the file's first bytes: what carries
                // another format's magic under a raw disk's name is refused, and what carries none has no
                // references to follow.
                let format = backing
                    .format
                    .as_deref()
                    .map(FormatName::parse)
                    .transpose()?;
                let image = opener.open_reference(&file, &backing.name, Role::Backing, format)?;
                chain.extend(image.chain());
                Some(image.below()?)
            }
            None => None,
        };
        let path = file.path().display().to_string();
        let cipher = header.encryption.map(|encryption| {
            let cipher = cipher(encryption, &file.source, &data, &header, opener);
            Sealed::new(cipher.map_err(|error| locked(&path, &error)), true)
        });
        let points = restore_points(&header, &snapshots);
        Ok(Box::new(Qcow2Image {
            chain,
            points,
            snapshots,
            bitmaps,
            path,
            units: file.units(header.compression),
            file: file.source,
            data,
            header,
            backing,
            cipher: cipher.transpose()?,
        }))
    }
}

/// What decrypts the clusters in `data`. Legacy keys are tried on those of the active state.
fn cipher(
    encryption: Encryption,
    file: &Arc<dyn Source>,
    data: &Arc<dyn Source>,
    header: &Header,
    opener: &mut Opener<'_>,
) -> Result<DataCipher> {
    let keys = opener.keys();
    match encryption {
        Encryption::Luks { offset, len } => {
            DataCipher::luks(file, (offset, len), keys, opener.budget())
        }
        Encryption::Legacy => {
            let map = Map::load(file.clone(), header, header.l1)?;
            let locate: Locate = Box::new(move |offset, limit| map.locate(offset, limit));
            DataCipher::legacy(&**data, header.size, &locate, keys)
        }
    }
}

struct Qcow2Image {
    chain: Chain,
    /// The name of the file, for errors.
    path: String,
    file: Arc<dyn Source>,
    /// Where data clusters lie: the file itself, or an external data file.
    data: Arc<dyn Source>,
    /// Compressed clusters.
    units: FileUnits,
    header: Header,
    backing: Option<Sealed<Arc<dyn Source>>>,
    /// What decrypts data clusters, if they are encrypted.
    cipher: Option<Sealed<DataCipher>>,
    /// Points[0] is the active state, points[n + 1] is snapshots[n].
    points: Vec<PointInfo>,
    snapshots: Vec<Snapshot>,
    bitmaps: Vec<Bitmap>,
}

/// The points with unique ids: hostile or hand-made images may repeat one.
fn restore_points(header: &Header, snapshots: &[Snapshot]) -> Vec<PointInfo> {
    let mut taken = std::collections::BTreeSet::from([ACTIVE.to_owned()]);
    let mut points = vec![PointInfo::active(header.size)];
    for (position, snapshot) in snapshots.iter().enumerate() {
        let mut id = snapshot.id.clone();
        if id.is_empty() || taken.contains(&id) {
            // Positions are unique, so this ends: no other suffix carries this one.
            id = format!("{id}#{position}");
            while taken.contains(&id) {
                id.push('\'');
            }
        }
        taken.insert(id.clone());
        points.push(PointInfo {
            id,
            name: snapshot.name.clone(),
            kind: PointKind::InternalSnapshot,
            created: (snapshot.seconds != 0).then_some(Timestamp {
                seconds: u64::from(snapshot.seconds),
                nanoseconds: snapshot.nanoseconds.min(999_999_999),
            }),
            vm_clock: (snapshot.vm_clock != 0).then_some(snapshot.vm_clock),
            memory: (snapshot.memory != 0).then_some(snapshot.memory),
            disk_size: snapshot.disk_size,
        });
    }
    points
}

impl Qcow2Image {
    fn snapshot(&self, id: &str) -> Result<Option<&Snapshot>> {
        let position = self
            .points
            .iter()
            .position(|point| point.id == id)
            .ok_or_else(|| no_point(id, &self.points))?;
        Ok(position
            .checked_sub(1)
            .and_then(|index| self.snapshots.get(index)))
    }

    /// The disk of `size` bytes that `l1` maps.
    fn disk(&self, l1: L1, size: u64) -> Result<Mapped> {
        let below = self.backing.as_ref().map(Sealed::open).transpose()?;
        self.mapped(l1, size, 0, size, below.map(Below::whole))
    }

    /// The `len` bytes of saved state behind the disk of `size` bytes that `l1` maps: QEMU keeps them from the first
    /// L1 entry on that the disk does not need (`qcow2_vm_state_offset`).
    fn saved_state(&self, l1: L1, size: u64, len: u64) -> Result<Mapped> {
        let header = &self.header;
        let shift = header.cluster_bits.saturating_add(header.l2_bits());
        let start = header
            .l1_entries_for(size)
            .checked_mul(1_u64.checked_shl(shift).unwrap_or(u64::MAX))
            .ok_or_else(|| Error::corrupt("the saved state lies beyond every limit"))
            .map_err(|error| error.in_file(&self.path))?;
        let end = start
            .checked_add(len)
            .ok_or_else(|| Error::corrupt("the saved state is larger than every limit"))
            .map_err(|error| error.in_file(&self.path))?;
        self.mapped(l1, end, start, len, None)
    }

    /// `len` bytes from `start` on of the `covered` bytes that `l1` must map.
    fn mapped(
        &self,
        l1: L1,
        covered: u64,
        start: u64,
        len: u64,
        below: Option<Below>,
    ) -> Result<Mapped> {
        let header = &self.header;
        let cipher = self.cipher.as_ref().map(Sealed::open).transpose()?;
        let map = header
            .check_l1(&*self.file, l1, covered, "the restore point")
            .and_then(|()| Map::load(self.file.clone(), header, l1))
            .map_err(|error| error.in_file(&self.path))?;
        Ok(Mapped::new(
            self.path.clone(),
            self.data.clone(),
            len,
            Box::new(move |offset, limit| map.locate(start.saturating_add(offset), limit)),
            below,
        )
        .packed(self.units.clone())
        .encrypted(cipher.map(|cipher| cipher.from(start))))
    }
}

impl Image for Qcow2Image {
    fn format(&self) -> FormatName {
        FormatName::QCOW2
    }

    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn virtual_size(&self) -> u64 {
        self.header.size
    }

    fn state(&self) -> State {
        State {
            dirty: self.header.dirty,
            ..State::default()
        }
    }

    fn bitmaps(&self) -> &[Bitmap] {
        &self.bitmaps
    }

    fn points(&self) -> &[PointInfo] {
        &self.points
    }

    fn open_point(&self, id: &str) -> Result<Arc<dyn Source>> {
        let (l1, size) = match self.snapshot(id)? {
            Some(snapshot) => (snapshot.l1, snapshot.disk_size),
            None => (self.header.l1, self.header.size),
        };
        Ok(Arc::new(self.disk(l1, size)?))
    }

    fn own(&self) -> Result<Option<Vec<Range<u64>>>> {
        if self.backing.is_none() {
            return Ok(None);
        }
        self.disk(self.header.l1, self.header.size)?.own()
    }

    fn memory(&self, id: &str) -> Result<Option<Arc<dyn Source>>> {
        match self.snapshot(id)? {
            Some(snapshot) if snapshot.memory != 0 => {
                let Snapshot {
                    l1,
                    disk_size,
                    memory,
                    ..
                } = snapshot;
                Ok(Some(Arc::new(self.saved_state(*l1, *disk_size, *memory)?)))
            }
            _ => Ok(None),
        }
    }
}
