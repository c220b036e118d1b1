//! Logical volumes put together of their segments.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, Result, Source, window};

use super::group::{Area, Group, Segment};
use super::snapshot::Snapshot;
use super::thin::{Pool, ThinVolume};
use super::{mirror, raid};
use crate::chunked::{Chunked, Layout};
use crate::joined::{Zeroes, join};
use crate::{Placement, Volume};

/// Logical volumes on logical volumes: a snapshot of a thin volume in a pool on RAID is five deep.
const MAX_DEPTH: usize = 32;
/// Ranges of one volume that anybody may want to write to.
const MAX_RANGES: usize = 4096;

/// A logical volume that can be read.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) source: Arc<dyn Source>,
    pub(super) placement: Placement,
    pub(super) layout: String,
    /// The volume of the group whose earlier state it keeps.
    pub(super) snapshot_of: Option<String>,
}

/// What is known of a logical volume so far.
enum State {
    /// It is being opened: whoever asks for it now is part of it.
    Opening,
    Opened(Opened),
    Failed(ErrorKind, String),
}

/// Opens the logical volumes of a group, each once.
pub(super) struct Opener<'a> {
    group: &'a Group,
    /// The physical volumes that are here, by the group's names for them.
    physical: BTreeMap<&'a str, &'a Volume>,
    states: RefCell<BTreeMap<String, State>>,
    pools: RefCell<BTreeMap<String, Arc<Pool>>>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(group: &'a Group, physical: BTreeMap<&'a str, &'a Volume>) -> Self {
        Self {
            group,
            physical,
            states: RefCell::default(),
            pools: RefCell::default(),
        }
    }

    /// The logical volume `name` as its system sees it, snapshots included.
    ///
    /// # Errors
    /// Whatever it needs that is missing, broken or not read, by name.
    pub(super) fn open(&self, name: &str) -> Result<Opened> {
        let snapshot = |key: &str, wanted: &str| {
            let mut all = self.group.snapshots();
            all.find(|segment| segment.section.text(key).is_ok_and(|text| text == wanted))
        };
        if let Some(segment) = snapshot("cow_store", name) {
            let origin = segment.section.text("origin")?;
            return self.snapshot(name, origin, Some(origin));
        }
        let merging = self.group.snapshots().find_map(|segment| {
            let store = segment.section.text("merging_store").ok()?;
            (segment.section.text("origin").ok()? == name).then_some(store)
        });
        if let Some(store) = merging {
            return self.snapshot(store, name, None);
        }
        let mut opened = self.raw(name)?;
        if snapshot("origin", name).is_some() {
            opened.placement = Placement::Bound(
                "what is overwritten in it must be kept for its snapshots".to_owned(),
            );
        }
        Ok(opened)
    }

    fn snapshot(&self, store: &str, origin: &str, of: Option<&str>) -> Result<Opened> {
        let exceptions = self.raw(store)?;
        let origin = self.raw(origin)?;
        Ok(Opened {
            source: Arc::new(Snapshot::open(exceptions.source, origin.source)?),
            placement: Placement::Bound(
                "it is a snapshot, or one is being merged into it".to_owned(),
            ),
            layout: "snapshot".to_owned(),
            snapshot_of: of.map(str::to_owned),
        })
    }

    /// The logical volume `name` by itself.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub(super) fn raw(&self, name: &str) -> Result<Opened> {
        match self.states.borrow().get(name) {
            Some(State::Opened(opened)) => return Ok(opened.clone()),
            Some(State::Failed(kind, why)) => return Err(Error::new(*kind, why.clone())),
            Some(State::Opening) => {
                return Err(Error::corrupt(format!("the volume {name} lies on itself")));
            }
            None => {}
        }
        let depth = {
            let mut states = self.states.borrow_mut();
            states.insert(name.to_owned(), State::Opening);
            let opening = |state: &&State| matches!(state, State::Opening);
            states.values().filter(opening).count()
        };
        let opened = if depth > MAX_DEPTH {
            Err(Error::limit(format!(
                "volumes lie on one another more than {MAX_DEPTH} deep"
            )))
        } else {
            self.put_together(name)
        };
        let state = match &opened {
            Ok(opened) => State::Opened(opened.clone()),
            Err(error) => State::Failed(error.kind(), error.with_causes()),
        };
        self.states.borrow_mut().insert(name.to_owned(), state);
        opened
    }

    fn put_together(&self, name: &str) -> Result<Opened> {
        let volume = self
            .group
            .logical
            .get(name)
            .ok_or_else(|| Error::corrupt(format!("there is no volume {name}")))?;
        let segments = volume
            .segments
            .iter()
            .map(|segment| {
                self.segment(segment).map_err(|error| match volume.visible {
                    // It is what the whole failure is about.
                    true => error,
                    false => error.in_file(format!("the logical volume {name}")),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let first = segments
            .first()
            .ok_or_else(|| Error::corrupt(format!("the volume {name} has no extents")))?;
        let layout = first.layout.clone();
        let snapshot_of = first.snapshot_of.clone();
        let placement = match Placement::join(segments.iter().map(|one| one.placement.clone())) {
            Placement::Ranges(ranges) if ranges.len() > MAX_RANGES => {
                Placement::Bound(format!("it is scattered over {} ranges", ranges.len()))
            }
            placement => placement,
        };
        let sources = segments.into_iter().map(|segment| segment.source);
        Ok(Opened {
            source: join(sources.collect())?,
            placement,
            layout,
            snapshot_of,
        })
    }

    /// Bytes of `extents`.
    pub(super) fn bytes(&self, extents: u64) -> Result<u64> {
        extents
            .checked_mul(self.group.extent)
            .ok_or_else(|| Error::corrupt("a volume larger than any disk"))
    }

    fn segment(&self, segment: &Segment) -> Result<Opened> {
        let size = self.bytes(segment.extents)?;
        let opened = match segment.kind.as_str() {
            "striped" | "linear" => self.striped(segment)?,
            "mirror" => mirror::open(self, segment)?,
            "thin" => self.thin(segment, size)?,
            "zero" => bound("zero", Arc::new(Zeroes(size)), "it is not on any disk"),
            "error" => {
                return Err(Error::unsupported(
                    "a part of it was lost, and reading that always fails",
                ));
            }
            kind if kind.starts_with("raid") => raid::open(self, segment)?,
            kind => {
                return Err(Error::unsupported(format!(
                    "it is of type {}, which is not read",
                    dormouse_block::escape_terminal(kind)
                )));
            }
        };
        if opened.source.len() < size {
            return Err(Error::corrupt(format!(
                "a segment of {size} bytes lies on {} only",
                opened.source.len()
            )));
        }
        if opened.source.len() == size {
            return Ok(opened);
        }
        Ok(Opened {
            placement: opened.placement.part(0, size),
            source: Arc::new(window(opened.source, 0, size)?),
            ..opened
        })
    }

    /// `extents` of the volume, physical or logical, that an area names.
    pub(super) fn area(&self, area: &Area, extents: u64) -> Result<(Arc<dyn Source>, Placement)> {
        let len = self.bytes(extents)?;
        let start = self.bytes(area.extent)?;
        let beyond = || Error::corrupt(format!("a segment goes beyond the end of {}", area.volume));
        if let Some(physical) = self.group.physical.get(&area.volume) {
            let volume = self.physical.get(area.volume.as_str()).ok_or_else(|| {
                Error::unsupported(format!(
                    "the physical volume {} (UUID {}) {}",
                    area.volume,
                    physical.id,
                    if physical.marked_missing {
                        "was away when the group was changed, so what it holds is out of date"
                    } else {
                        "is missing"
                    }
                ))
            })?;
            let end = area.extent.checked_add(extents).ok_or_else(beyond)?;
            if end > physical.extents {
                return Err(beyond());
            }
            let at = physical.data_start.checked_add(start).ok_or_else(beyond)?;
            let source = window(volume.source.clone(), at, len).map_err(|error| {
                Error::corrupt(format!("the physical volume {} is cut off", area.volume))
                    .because(error)
            })?;
            return Ok((Arc::new(source), volume.placement.part(at, len)));
        }
        let below = self.raw(&area.volume)?;
        let source = window(below.source, start, len).map_err(|_| beyond())?;
        Ok((Arc::new(source), below.placement.part(start, len)))
    }

    fn striped(&self, segment: &Segment) -> Result<Opened> {
        let areas = segment.areas("stripes")?;
        let count = u64::try_from(areas.len()).unwrap_or(u64::MAX);
        if count == 0 || !segment.extents.is_multiple_of(count) {
            return Err(Error::corrupt(format!(
                "{} extents on {count} stripes are impossible",
                segment.extents
            )));
        }
        let each = segment.extents.checked_div(count).unwrap_or(0);
        if let [area] = areas.as_slice() {
            let (source, placement) = self.area(area, each)?;
            return Ok(Opened {
                source,
                placement,
                layout: "linear".to_owned(),
                snapshot_of: None,
            });
        }
        let members = areas
            .iter()
            .map(|area| Ok(Some(self.area(area, each)?.0)))
            .collect::<Result<Vec<_>>>()?;
        let chunk = sectors(segment, "stripe_size")?;
        let striped = Chunked::new(Layout::Striped, chunk, self.bytes(each)?, members)?;
        Ok(bound(
            "striped",
            Arc::new(striped),
            "it is striped over several areas",
        ))
    }

    fn thin(&self, segment: &Segment, size: u64) -> Result<Opened> {
        let section = &segment.section;
        // A snapshot that takes its origin's place at the next activation already is what the system will see.
        if let Ok(merged) = section.text("merge") {
            let mut opened = self.raw(merged)?;
            opened.snapshot_of = None;
            return Ok(opened);
        }
        let pool = self.pool(section.text("thin_pool")?)?;
        let outside = match section.text("external_origin") {
            Ok(origin) => Some(self.raw(origin)?.source),
            Err(_) => None,
        };
        let volume = ThinVolume::open(pool, section.number("device_id")?, size, outside)?;
        let mut opened = bound(
            "thin",
            Arc::new(volume),
            "it shares the blocks of a thin pool",
        );
        opened.snapshot_of = section.text("origin").ok().map(str::to_owned);
        Ok(opened)
    }

    fn pool(&self, name: &str) -> Result<Arc<Pool>> {
        if let Some(pool) = self.pools.borrow().get(name) {
            return Ok(pool.clone());
        }
        let volume = self.group.logical.get(name);
        let segment = volume
            .and_then(|volume| volume.segments.first())
            .filter(|segment| segment.kind == "thin-pool")
            .ok_or_else(|| Error::corrupt(format!("there is no thin pool {name}")))?;
        let metadata = self.raw(segment.section.text("metadata")?)?.source;
        let data = self.raw(segment.section.text("pool")?)?.source;
        let pool = Pool::open(metadata, data, sectors(segment, "chunk_size")?)
            .map_err(|error| error.in_file(format!("the thin pool {name}")))?;
        let pool = Arc::new(pool);
        self.pools
            .borrow_mut()
            .insert(name.to_owned(), pool.clone());
        Ok(pool)
    }
}

/// A volume whose bytes cannot simply be written, and why.
pub(super) fn bound(layout: &str, source: Arc<dyn Source>, why: &str) -> Opened {
    Opened {
        source,
        placement: Placement::Bound(why.to_owned()),
        layout: layout.to_owned(),
        snapshot_of: None,
    }
}

/// The size `name` of a segment, which counts sectors, in bytes.
pub(super) fn sectors(segment: &Segment, name: &str) -> Result<u64> {
    segment
        .section
        .number(name)?
        .checked_mul(512)
        .ok_or_else(|| Error::corrupt(format!("a {name} larger than any disk")))
}
