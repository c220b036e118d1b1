//! LVM2: volume groups over several physical volumes, and the logical volumes in them.

mod group;
mod label;
mod mirror;
mod open;
mod raid;
mod snapshot;
mod text;
mod thin;

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Error, Gap, Locator};

use crate::{Found, Identified, Keys, Note, Volume, VolumeSystem};
use group::Group;
use label::Label;
use open::Opener;

/// The volume system.
pub(crate) struct Lvm;

/// Kinds of volumes that hold nothing of their own: what is in them belongs to others of the group.
const INNER: [&str; 4] = ["thin-pool", "cache-pool", "vdo-pool", "snapshot"];

/// A physical volume among the candidates.
struct Physical<'a> {
    position: usize,
    volume: &'a Volume,
    label: Label,
}

impl VolumeSystem for Lvm {
    fn name(&self) -> &'static str {
        "lvm"
    }

    fn find(&self, candidates: &[Volume], _: &Keys) -> Found {
        let mut found = Found::default();
        let mut physical = Vec::new();
        for (position, volume) in candidates.iter().enumerate() {
            match Label::find(&*volume.source) {
                Ok(None) => {}
                Ok(Some(label)) => physical.push(Physical {
                    position,
                    volume,
                    label,
                }),
                Err(error) => {
                    found.claimed.push(position);
                    found.volumes.push(volume.settled());
                    found.gaps.push(Gap::from_error(&error, &volume.locator()));
                }
            }
        }
        if physical.is_empty() {
            return found;
        }
        let groups = groups(&physical, &mut found);
        let here: BTreeSet<&str> = physical.iter().map(|one| one.label.id.as_str()).collect();
        let complete = |group: &Group| group.physical_ids().is_subset(&here);
        // A group that lacks a physical volume may find it in a logical volume of another group.
        let any_complete = groups.values().any(complete);
        let mut used: BTreeSet<usize> = BTreeSet::new();
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        for group in groups.values() {
            let count = names.entry(group.name.clone()).or_default();
            *count = count.saturating_add(1);
        }
        for group in groups.values() {
            if any_complete && !complete(group) {
                continue;
            }
            let unique = names.get(&group.name) == Some(&1);
            let name = if unique {
                group.name.clone()
            } else {
                format!("{}:{}", group.name, group.id)
            };
            used.extend(activate(group, &name, &physical, &mut found));
        }
        if !any_complete {
            for one in &physical {
                if used.insert(one.position) {
                    leave_over(one, &mut found);
                }
            }
        }
        found.claimed.extend(used);
        found.claimed.sort_unstable();
        found.claimed.dedup();
        found
    }
}

/// The groups that the physical volumes' metadata describe, by UUID; of several versions the newest.
fn groups(physical: &[Physical<'_>], found: &mut Found) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for one in physical {
        let metadata = one.label.metadata(&*one.volume.source);
        let at = one.volume.locator();
        let read = metadata.text.as_ref().map(Group::read).transpose();
        let group = match read {
            Ok(group) => group,
            Err(error) => {
                found.gaps.push(Gap::from_error(&error, &at));
                None
            }
        };
        for error in metadata.broken {
            // Another copy may be sound; without any, the physical volume is told of as one that nobody knows.
            found.notes.push(Note {
                at: at.clone(),
                what: format!(
                    "a copy of the metadata is unusable: {}",
                    error.with_causes()
                ),
            });
        }
        let Some(group) = group else { continue };
        match groups.get(&group.id) {
            Some(known) if known.seqno >= group.seqno => {}
            _ => {
                groups.insert(group.id.clone(), group);
            }
        }
    }
    groups
}

/// Opens the volumes of `group`; the positions of its physical volumes.
fn activate(
    group: &Group,
    name: &str,
    physical: &[Physical<'_>],
    found: &mut Found,
) -> BTreeSet<usize> {
    let here = Locator::default().volume(format!("lvm/{name}"));
    let mut used = BTreeSet::new();
    let mut present = BTreeMap::new();
    let mut parent: Option<&Volume> = None;
    for (key, wanted) in &group.physical {
        let mut holders = physical.iter().filter(|one| one.label.id == wanted.id);
        let (first, second) = (holders.next(), holders.next());
        let holders = physical.iter().filter(|one| one.label.id == wanted.id);
        used.extend(holders.map(|one| one.position));
        match (first, second) {
            (Some(one), None) if !wanted.marked_missing => {
                present.insert(key.as_str(), one.volume);
                if parent.is_none_or(|parent| parent.depth < one.volume.depth) {
                    parent = Some(one.volume);
                }
            }
            (Some(one), Some(other)) => {
                let error = Error::unsupported(format!(
                    "{} and {} are the same physical volume {} of the group {}: one is a copy of the other",
                    one.volume.info.name, other.volume.info.name, wanted.id, group.name
                ));
                found.gaps.push(Gap::from_error(&error, &here));
            }
            _ => {}
        }
    }
    if group.exported {
        found.notes.push(Note {
            at: here.clone(),
            what: "the volume group is exported, so its system does not activate it".to_owned(),
        });
    }
    let Some(parent) = parent else {
        let error = Error::unsupported(format!(
            "no physical volume of the group {} can be relied on",
            group.name
        ));
        found.gaps.push(Gap::from_error(&error, &here));
        return used;
    };
    let first = present.values().next().map_or(parent, |first| *first);
    let first = first.info.name.clone();
    let opener = Opener::new(group, present);
    for (logical, volume) in &group.logical {
        // A snapshot's name is that of the hidden volume which keeps its exceptions.
        let listed = volume.visible || group.is_snapshot(logical);
        if !listed || INNER.contains(&volume.kind()) {
            continue;
        }
        let path = |logical: &str| format!("lvm/{name}/{logical}");
        match opener.open(logical) {
            Ok(opened) => {
                let mut made = Volume::made(
                    "lvm",
                    path(logical),
                    parent,
                    opened.source,
                    opened.placement,
                );
                made.info.parent.clone_from(&first);
                made.info.layout = Some(opened.layout);
                made.info.snapshot_of = opened.snapshot_of.as_deref().map(path);
                made.info.device_names = device_names(&group.name, logical);
                found.volumes.push(made);
            }
            Err(error) => {
                let at = Locator::default().volume(path(logical));
                found.gaps.push(Gap::from_error(&error, &at));
            }
        }
    }
    used
}

/// Files by which a system knows the volume: the device mapper doubles dashes within names.
fn device_names(group: &str, logical: &str) -> Vec<String> {
    let doubled = |name: &str| name.replace('-', "--");
    vec![
        format!("/dev/mapper/{}-{}", doubled(group), doubled(logical)),
        format!("/dev/{group}/{logical}"),
    ]
}

/// A physical volume that no group knows: it is empty when its own metadata say so.
fn leave_over(one: &Physical<'_>, found: &mut Found) {
    let metadata = one.label.metadata(&*one.volume.source);
    let mut volume = one.volume.settled();
    let empty = metadata.text.is_none() && metadata.broken.is_empty() && !one.label.keeps_none();
    if empty {
        volume.info.content = Some(Identified {
            kind: "LVM2_member".to_owned(),
            may_hold_packages: false,
            hibernated: false,
            unclean: false,
        });
        found.notes.push(Note {
            at: one.volume.locator(),
            what: "the physical volume belongs to no volume group".to_owned(),
        });
    } else {
        let error = Error::unsupported(
            "no volume group that is here knows this physical volume, and its own metadata cannot be read",
        );
        let mut gap = Gap::from_error(&error, &one.volume.locator());
        if let Some(broken) = metadata.broken.first() {
            gap.why = format!("{}: {}", gap.why, broken.with_causes());
        }
        found.gaps.push(gap);
    }
    found.volumes.push(volume);
}
