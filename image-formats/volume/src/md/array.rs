//! An array put together of its members.

use std::cmp::Reverse;
use std::sync::Arc;

use dormouse_block::{Error, Gap, Locator, Result, Source, window};

use super::member::Member;
use super::superblock::{Role, Superblock};
use crate::chunked::{Chunked, Copies, Layout, MAX_MEMBERS, Parity};
use crate::joined::join;
use crate::{Found, Note, Placement, Volume};

/// `layout` of RAID 0 with members of several sizes (`raid0.h`): as kernels before 3.14 did it, and as later ones do.
const RAID0_ORIGINAL: u32 = 1;
const RAID0_ALTERNATE: u32 = 2;

/// The members of an array that are here, newest first.
pub(super) struct Array<'a> {
    name: String,
    members: Vec<Member<'a>>,
}

/// An array that can be read.
struct Assembled {
    source: Arc<dyn Source>,
    placement: Placement,
    layout: String,
}

impl<'a> Array<'a> {
    pub(super) fn new(name: String, mut members: Vec<Member<'a>>) -> Self {
        members.sort_by_key(|member| Reverse(member.superblock.events));
        Self { name, members }
    }

    /// Adds the array's volume to `found`, or the gap that it leaves.
    pub(super) fn assemble(&self, found: &mut Found) {
        let Some(first) = self.members.first() else {
            return;
        };
        let name = format!("md/{}", self.name);
        let here = Locator::default().volume(name.clone());
        let mut notes = Vec::new();
        let assembled = self.read(&first.superblock, &mut notes);
        found.notes.extend(notes.into_iter().map(|what| Note {
            at: here.clone(),
            what,
        }));
        match assembled {
            Ok(array) => {
                // The members lie in different depths at most by mistake; the deepest counts.
                let parent = self
                    .members
                    .iter()
                    .map(|member| member.volume)
                    .max_by_key(|volume| volume.depth)
                    .unwrap_or(first.volume);
                let mut volume = Volume::made("md", name, parent, array.source, array.placement);
                volume.info.parent.clone_from(&first.volume.info.name);
                volume.info.layout = Some(array.layout);
                volume.info.device_names = self.device_names(&first.superblock);
                found.volumes.push(volume);
            }
            Err(error) => found.gaps.push(Gap::from_error(&error, &here)),
        }
    }

    fn device_names(&self, newest: &Superblock) -> Vec<String> {
        let mut names = vec![format!("/dev/md/{}", self.name)];
        if newest.name.parse::<u32>().is_ok() {
            names.push(format!("/dev/md{}", newest.name));
        }
        names.push(format!("/dev/disk/by-id/md-uuid-{}", newest.set));
        names
    }

    fn read(&self, newest: &Superblock, notes: &mut Vec<String>) -> Result<Assembled> {
        if let Some(why) = self.members.iter().find_map(|one| one.superblock.refused) {
            return Err(Error::unsupported(why));
        }
        let layout = level_name(newest.level).ok_or_else(|| {
            Error::unsupported(format!("a RAID of level {} is not read", newest.level))
        })?;
        let count = usize::try_from(newest.members)
            .ok()
            .filter(|count| (1..=MAX_MEMBERS).contains(count))
            .ok_or_else(|| Error::corrupt(format!("{} members are impossible", newest.members)))?;
        let mut slots: Vec<Option<&Member<'_>>> = vec![None; count];
        for member in &self.members {
            let Some(slot) = self.slot(newest, member, notes)? else {
                continue;
            };
            let place = usize::try_from(slot)
                .ok()
                .and_then(|slot| slots.get_mut(slot))
                .ok_or_else(|| Error::corrupt(format!("member {slot} of {count} is impossible")))?;
            if let Some(other) = place {
                return Err(Error::unsupported(format!(
                    "{} and {} both say that they are member {slot}: one is a copy of the other",
                    other.volume.info.name, member.volume.info.name
                )));
            }
            *place = Some(member);
        }
        let missing: Vec<String> = slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_none())
            .map(|(slot, _)| slot.to_string())
            .collect();
        let lost = (!missing.is_empty()).then(|| {
            let plural = if missing.len() == 1 { "" } else { "s" };
            let list: Vec<_> = missing.iter().take(16).cloned().collect();
            format!(
                "member{plural} {} of {count} (of a {layout} array, UUID {}) {} missing",
                list.join(", "),
                newest.set,
                if missing.len() == 1 { "is" } else { "are" }
            )
        });
        let degraded = |error: Error| match &lost {
            Some(lost) => Error::unsupported(lost.clone()).because(error),
            None => error,
        };
        if lost.is_some() && matches!(newest.level, 4..=6) {
            if !newest.in_sync {
                return Err(degraded(Error::unsupported(
                    "its parity was not in step when it was last written, so nothing makes up for that",
                )));
            }
            if newest.partial_parity_log {
                return Err(degraded(Error::unsupported(
                    "the log of partial parity that would make up for that is not read",
                )));
            }
        }
        let assembled = put_together(newest, layout, &slots).map_err(degraded)?;
        notes.extend(lost.map(|lost| format!("{lost}; the others make up for that")));
        Ok(assembled)
    }

    /// The place of `member` in the array, or `None` when its bytes are not to be relied on.
    fn slot(
        &self,
        newest: &Superblock,
        member: &Member<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Option<u64>> {
        let own = &member.superblock;
        let name = &member.volume.info.name;
        let same = own.level == newest.level
            && own.members == newest.members
            && own.chunk == newest.chunk
            && own.layout == newest.layout
            && own.version == newest.version;
        if !same && own.events == newest.events {
            return Err(Error::corrupt(format!(
                "the RAID superblock of {name} contradicts that of another member"
            )));
        }
        let role = newest.role_of(own.number);
        let mut leave_out = |why: &str| {
            notes.push(format!("{name} {why}, and is left out"));
            Ok(None)
        };
        match role {
            Role::Spare => leave_out("is a spare"),
            Role::Faulty => leave_out("has failed"),
            Role::Journal => leave_out("is a journal"),
            // What was written once after the last common event is the superblock alone (`md.c`, "++ev1").
            Role::Active(_) if own.events.saturating_add(1) < newest.events => leave_out(&format!(
                "is out of date (event {} of {})",
                own.events, newest.events
            )),
            Role::Active(_) if !same => leave_out("is out of date"),
            Role::Active(_) if own.recovering => leave_out("was still being rebuilt"),
            Role::Active(_) if own.bad_blocks => leave_out("has bad blocks"),
            Role::Active(slot) => Ok(Some(slot)),
        }
    }
}

fn level_name(level: i32) -> Option<&'static str> {
    Some(match level {
        -1 => "linear",
        0 => "raid0",
        1 => "raid1",
        4 => "raid4",
        5 => "raid5",
        6 => "raid6",
        10 => "raid10",
        _ => return None,
    })
}

/// The data of a member: `size` bytes of it.
fn data(member: &Member<'_>, size: u64) -> Result<Arc<dyn Source>> {
    let own = &member.superblock;
    if size > own.data_size {
        return Err(Error::corrupt(format!(
            "{} has {} bytes of data, of which the array uses {size}",
            member.volume.info.name, own.data_size
        )));
    }
    let part = window(member.volume.source.clone(), own.data_offset, size).map_err(|error| {
        Error::corrupt(format!("{} is cut off", member.volume.info.name)).because(error)
    })?;
    Ok(Arc::new(part))
}

fn put_together(
    newest: &Superblock,
    level: &str,
    slots: &[Option<&Member<'_>>],
) -> Result<Assembled> {
    let bound = Placement::Bound(format!("it is spread over the members of a {level} array"));
    let assembled = |source: Arc<dyn Source>| Assembled {
        source,
        placement: bound.clone(),
        layout: level.to_owned(),
    };
    let all = || -> Result<Vec<&Member<'_>>> {
        slots
            .iter()
            .map(|slot| slot.ok_or_else(|| Error::unsupported("nothing makes up for that")))
            .collect()
    };
    match newest.level {
        -1 => {
            let members = all()?;
            // `linear_conf` rounds members down to whole chunks, where there are chunks.
            let sizes: Vec<u64> = members
                .iter()
                .map(|member| whole_chunks(member.superblock.data_size, newest.chunk))
                .collect();
            let parts = members
                .iter()
                .zip(&sizes)
                .map(|(member, size)| data(member, *size))
                .collect::<Result<Vec<_>>>()?;
            let placements = members.iter().zip(&sizes).map(|(member, size)| {
                let own = &member.superblock;
                member.volume.placement.part(own.data_offset, *size)
            });
            let placement = Placement::join(placements);
            Ok(Assembled {
                source: join(parts)?,
                placement,
                layout: level.to_owned(),
            })
        }
        0 => Ok(assembled(raid0(newest, &all()?)?)),
        1 => {
            let member = slots
                .iter()
                .flatten()
                .next()
                .ok_or_else(|| Error::unsupported("no member can be relied on"))?;
            Ok(assembled(data(member, newest.size)?))
        }
        _ => {
            let layout = match newest.level {
                4 => Layout::Parity(Parity {
                    redundancy: 1,
                    algorithm: 5,
                }),
                5 | 6 => Layout::Parity(Parity {
                    redundancy: if newest.level == 5 { 1 } else { 2 },
                    algorithm: newest.layout,
                }),
                _ => Layout::Copies(Copies::new(
                    newest.layout,
                    newest.members,
                    newest.size.checked_div(newest.chunk).unwrap_or(0),
                )?),
            };
            let members = slots
                .iter()
                .map(|slot| slot.map(|member| data(member, newest.size)).transpose())
                .collect::<Result<Vec<_>>>()?;
            let chunked = Chunked::new(layout, newest.chunk, newest.size, members)?;
            Ok(assembled(Arc::new(chunked)))
        }
    }
}

fn whole_chunks(size: u64, chunk: u64) -> u64 {
    match size.checked_rem(chunk) {
        Some(rest) => size.saturating_sub(rest),
        None => size,
    }
}

/// Zones, each as wide as there are members that reach so far (`create_strip_zones`).
fn raid0(newest: &Superblock, members: &[&Member<'_>]) -> Result<Arc<dyn Source>> {
    let chunk = newest.chunk;
    if chunk == 0 || !chunk.is_multiple_of(512) {
        return Err(Error::corrupt(format!(
            "chunks of {chunk} bytes are impossible"
        )));
    }
    let sizes: Vec<u64> = members
        .iter()
        .map(|member| whole_chunks(member.superblock.data_size, chunk))
        .collect();
    let mut ends = sizes.clone();
    ends.sort_unstable();
    ends.dedup();
    let original = match newest.layout {
        _ if ends.len() == 1 => false,
        RAID0_ORIGINAL if newest.raid0_layout => true,
        RAID0_ALTERNATE if newest.raid0_layout => false,
        _ => {
            return Err(Error::unsupported(
                "its members differ in size, and nothing says which of two layouts it has",
            ));
        }
    };
    let mut zones: Vec<Arc<dyn Source>> = Vec::new();
    let mut start = 0_u64;
    let mut chunks_before = 0_usize;
    for end in ends {
        let depth = end.saturating_sub(start);
        if depth == 0 {
            continue;
        }
        let mut stripes = Vec::new();
        for (member, size) in members.iter().zip(&sizes) {
            if *size > start {
                let whole = data(member, *size)?;
                let part: Arc<dyn Source> = Arc::new(window(whole, start, depth)?);
                stripes.push(Some(part));
            }
        }
        let width = stripes.len();
        if original {
            // The member of a chunk was reckoned from the array's beginning, not from the zone's.
            stripes.rotate_left(chunks_before.checked_rem(width).unwrap_or(0));
        }
        let chunks = usize::try_from(depth.checked_div(chunk).unwrap_or(0)).unwrap_or(usize::MAX);
        chunks_before = chunks_before.wrapping_add(chunks.wrapping_mul(width));
        zones.push(Arc::new(Chunked::new(
            Layout::Striped,
            chunk,
            depth,
            stripes,
        )?));
        start = end;
    }
    join(zones)
}
