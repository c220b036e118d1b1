//! qcow2, versions 2 and 3, after QEMU's `docs/interop/qcow2.txt`.
//!
//! Read: clusters of 512 bytes to 2 MiB, zlib and zstd compressed clusters, zero clusters, backing chains, internal
//! snapshots with their own L1 tables and disk sizes, and the saved state of a machine behind the end of a snapshot's
//! disk. Passed over: bitmaps, unknown compatible and autoclear features, unknown header extensions. Refused by name:
//! external data files, extended L2 entries, encryption, the corrupt mark, and unknown incompatible features.

mod decoder;
mod header;
mod map;
mod reader;
mod snapshots;

use std::sync::Arc;

use dormouse_block::{Result, Source};

use self::header::Header;
use self::reader::Point;
use self::snapshots::Snapshot;
use crate::image::no_point;
use crate::{
    ACTIVE, Chain, Format, FormatName, Image, OpenFile, Opener, PointInfo, PointKind, Probe, Role,
    State, Timestamp,
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
        let mut chain = file.chain(FormatName::QCOW2);
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
                Some(image.open_point(ACTIVE)?)
            }
            None => None,
        };
        let points = restore_points(&header, &snapshots);
        Ok(Box::new(Qcow2Image {
            chain,
            points,
            snapshots,
            store: Arc::new(Store {
                path: file.path().display().to_string(),
                file: file.source,
                header,
                backing,
            }),
        }))
    }
}

/// What all points of one image share.
struct Store {
    /// The name of the file, for errors.
    path: String,
    file: Arc<dyn Source>,
    header: Header,
    backing: Option<Arc<dyn Source>>,
}

struct Qcow2Image {
    chain: Chain,
    store: Arc<Store>,
    /// Points[0] is the active state, points[n + 1] is snapshots[n].
    points: Vec<PointInfo>,
    snapshots: Vec<Snapshot>,
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
}

impl Image for Qcow2Image {
    fn format(&self) -> FormatName {
        FormatName::QCOW2
    }

    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn virtual_size(&self) -> u64 {
        self.store.header.size
    }

    fn state(&self) -> State {
        State {
            dirty: self.store.header.dirty,
        }
    }

    fn points(&self) -> &[PointInfo] {
        &self.points
    }

    fn open_point(&self, id: &str) -> Result<Arc<dyn Source>> {
        let (l1, size) = match self.snapshot(id)? {
            Some(snapshot) => (snapshot.l1, snapshot.disk_size),
            None => (self.store.header.l1, self.store.header.size),
        };
        let point = Point::disk(self.store.clone(), l1, size);
        Ok(Arc::new(
            point.map_err(|error| error.in_file(&self.store.path))?,
        ))
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
                let point = Point::memory(self.store.clone(), *l1, *disk_size, *memory);
                Ok(Some(Arc::new(
                    point.map_err(|error| error.in_file(&self.store.path))?,
                )))
            }
            _ => Ok(None),
        }
    }
}
