//! Linux software RAID: superblocks of every version, arrays of every level.

mod array;
mod legacy;
mod member;
mod superblock;

use std::collections::BTreeMap;

use dormouse_block::{Error, Gap};

use crate::identify::firmware_raid;
use crate::{Found, Keys, Volume, VolumeSystem};
use array::Array;
use member::Member;

/// The volume system.
pub(crate) struct Md;

/// Firmware RAID, whose metadata stand at the end of whole disks, and whose members show what the array holds.
const FIRMWARE: [(&str, &str); 2] = [
    ("ddf_raid_member", "a DDF array"),
    ("isw_raid_member", "an Intel Matrix (IMSM) array"),
];

impl VolumeSystem for Md {
    fn name(&self) -> &'static str {
        "md"
    }

    fn find(&self, candidates: &[Volume], _: &Keys) -> Found {
        let mut found = Found::default();
        let mut arrays: BTreeMap<String, Vec<Member<'_>>> = BTreeMap::new();
        for (position, volume) in candidates.iter().enumerate() {
            match member::look(position, volume) {
                Ok(None) => {}
                Ok(Some(member)) => arrays
                    .entry(member.superblock.set.clone())
                    .or_default()
                    .push(member),
                Err(error) => {
                    found.claimed.push(position);
                    found.volumes.push(volume.settled());
                    found.gaps.push(Gap::from_error(&error, &volume.locator()));
                }
            }
            if volume.info.system == "disk"
                && let Some(what) = firmware(volume)
            {
                found.claimed.push(position);
                found.volumes.push(volume.settled());
                let error =
                    Error::unsupported(format!("it is a member of {what}, which is not read"));
                found.gaps.push(Gap::from_error(&error, &volume.locator()));
            }
        }
        let mut names = BTreeMap::new();
        for members in arrays.values() {
            let name = members.first().map(|member| member.superblock.name.clone());
            let count: &mut u32 = names.entry(name).or_default();
            *count = count.saturating_add(1);
        }
        for (set, members) in arrays {
            found
                .claimed
                .extend(members.iter().map(|member| member.position));
            let wanted = members.first().map(|member| member.superblock.name.clone());
            let unique = names.get(&wanted).is_some_and(|count| *count == 1);
            let name = match wanted {
                Some(name) if unique && !name.is_empty() => name,
                _ => set,
            };
            Array::new(name, members).assemble(&mut found);
        }
        found.claimed.sort_unstable();
        found.claimed.dedup();
        found
    }
}

/// What `volume` is a member of, when its signature is that of firmware RAID.
fn firmware(volume: &Volume) -> Option<&'static str> {
    let kind = firmware_raid(&*volume.source, &FIRMWARE.map(|(kind, _)| kind))?;
    let (_, what) = FIRMWARE.iter().find(|(known, _)| *known == kind)?;
    Some(what)
}
