//! A volume group as its metadata text describes it.

use std::collections::{BTreeMap, BTreeSet};

use dormouse_block::{Error, Result};

use super::text::{Section, Value};

/// Segments of one logical volume, and logical volumes of one group.
const MAX_SEGMENTS: u64 = 100_000;
const MAX_VOLUMES: usize = 10_000;

/// A volume group.
pub(super) struct Group {
    pub(super) name: String,
    /// Its UUID, with dashes.
    pub(super) id: String,
    pub(super) seqno: u64,
    /// It was given away with `vgexport`: its system does not activate it.
    pub(super) exported: bool,
    /// Bytes of an extent.
    pub(super) extent: u64,
    /// By the names that segments call them.
    pub(super) physical: BTreeMap<String, PhysicalVolume>,
    pub(super) logical: BTreeMap<String, LogicalVolume>,
}

/// A physical volume of it.
pub(super) struct PhysicalVolume {
    /// Its UUID without dashes, as its label has it.
    pub(super) id: String,
    /// Where its first extent begins, in bytes.
    pub(super) data_start: u64,
    pub(super) extents: u64,
    /// The group was changed while it was away, so what it holds is not to be relied on.
    pub(super) marked_missing: bool,
}

/// A logical volume of it.
pub(super) struct LogicalVolume {
    pub(super) visible: bool,
    pub(super) segments: Vec<Segment>,
}

/// Some of a logical volume's extents.
pub(super) struct Segment {
    pub(super) extents: u64,
    /// How they are laid out.
    pub(super) kind: String,
    pub(super) section: Section,
}

/// A name followed by a number: a volume and the extent in it.
pub(super) struct Area {
    pub(super) volume: String,
    pub(super) extent: u64,
}

impl Group {
    /// Reads the text of a metadata area.
    ///
    /// # Errors
    /// `Corrupt` when something that must be there is missing or impossible, `Unsupported` for other formats, `Limit`.
    pub(super) fn read(text: &Section) -> Result<Self> {
        let mut sections = text.sections().iter();
        let (Some((name, group)), None) = (sections.next(), sections.next()) else {
            return Err(Error::corrupt(
                "the metadata text describes no volume group",
            ));
        };
        valid(name)?;
        if let Ok(format) = group.text("format")
            && format != "lvm2"
        {
            return Err(Error::unsupported(format!(
                "a volume group of format {format}"
            )));
        }
        let extent = group
            .number("extent_size")?
            .checked_mul(512)
            .filter(|extent| *extent > 0)
            .ok_or_else(|| Error::corrupt("its extents have no possible size"))?;
        let mut physical = BTreeMap::new();
        for (name, section) in group
            .section("physical_volumes")
            .iter()
            .flat_map(|all| all.sections())
        {
            physical.insert(name.clone(), PhysicalVolume::read(section)?);
        }
        let mut logical = BTreeMap::new();
        for (name, section) in group
            .section("logical_volumes")
            .iter()
            .flat_map(|all| all.sections())
        {
            valid(name)?;
            if logical.len() >= MAX_VOLUMES {
                return Err(Error::limit(format!(
                    "more than {MAX_VOLUMES} logical volumes"
                )));
            }
            logical.insert(name.clone(), LogicalVolume::read(section)?);
        }
        Ok(Self {
            name: name.clone(),
            id: group.text("id")?.to_owned(),
            seqno: group.number("seqno")?,
            exported: group.lists("status", "EXPORTED"),
            extent,
            physical,
            logical,
        })
    }

    /// The snapshots of the group: the volume that keeps their exceptions, and the segment that says of what.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = &Segment> {
        self.logical
            .values()
            .flat_map(|volume| &volume.segments)
            .filter(|segment| segment.kind == "snapshot")
    }

    /// Whether `name` keeps the exceptions of a snapshot that is not being merged.
    pub(super) fn is_snapshot(&self, name: &str) -> bool {
        self.snapshots().any(|segment| {
            segment
                .section
                .text("cow_store")
                .is_ok_and(|store| store == name)
        })
    }

    /// Names that the group's segments use of physical volumes.
    pub(super) fn physical_ids(&self) -> BTreeSet<&str> {
        self.physical
            .values()
            .map(|volume| volume.id.as_str())
            .collect()
    }
}

/// lvm2's own rule for names (`validate_name`).
fn valid(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    if name.is_empty()
        || name.len() > 127
        || !name.bytes().all(allowed)
        || name == "."
        || name == ".."
    {
        return Err(Error::corrupt("a volume has an impossible name"));
    }
    Ok(())
}

impl PhysicalVolume {
    fn read(section: &Section) -> Result<Self> {
        Ok(Self {
            id: section.text("id")?.replace('-', ""),
            data_start: section
                .number("pe_start")?
                .checked_mul(512)
                .ok_or_else(|| Error::corrupt("a pe_start beyond every disk"))?,
            extents: section.number("pe_count")?,
            marked_missing: section.lists("flags", "MISSING"),
        })
    }
}

impl LogicalVolume {
    fn read(section: &Section) -> Result<Self> {
        let count = section.number("segment_count")?;
        if count > MAX_SEGMENTS {
            return Err(Error::limit(format!("more than {MAX_SEGMENTS} segments")));
        }
        let mut segments = Vec::new();
        let mut next = 0_u64;
        for number in 1..=count {
            let name = format!("segment{number}");
            let segment = section
                .section(&name)
                .ok_or_else(|| Error::corrupt(format!("{name} is missing")))?;
            if segment.number("start_extent")? != next {
                return Err(Error::corrupt(format!(
                    "{name} does not follow the one before"
                )));
            }
            let extents = segment.number("extent_count")?;
            next = next
                .checked_add(extents)
                .ok_or_else(|| Error::corrupt("more extents than any disk has"))?;
            segments.push(Segment {
                extents,
                kind: segment.text("type")?.to_owned(),
                section: segment.clone(),
            });
        }
        Ok(Self {
            visible: section.lists("status", "VISIBLE"),
            segments,
        })
    }

    /// How its first segment is laid out.
    pub(super) fn kind(&self) -> &str {
        self.segments.first().map_or("", |segment| &segment.kind)
    }
}

impl Segment {
    /// The pairs of the list `name`.
    ///
    /// # Errors
    /// `Corrupt` when it is no list of pairs.
    pub(super) fn areas(&self, name: &str) -> Result<Vec<Area>> {
        self.section
            .list(name)
            .chunks(2)
            .map(|pair| match pair {
                [Value::Text(volume), Value::Number(extent)] => Ok(Area {
                    volume: volume.clone(),
                    extent: u64::try_from(*extent)
                        .map_err(|_| Error::corrupt("an extent before the first"))?,
                }),
                _ => Err(Error::corrupt(format!("the list {name} holds no pairs"))),
            })
            .collect()
    }

    /// The names of the list `name`.
    ///
    /// # Errors
    /// `Corrupt` when it holds something else.
    pub(super) fn names(&self, name: &str) -> Result<Vec<&str>> {
        self.section
            .list(name)
            .iter()
            .map(|value| match value {
                Value::Text(text) => Ok(text.as_str()),
                _ => Err(Error::corrupt(format!(
                    "the list {name} holds more than names"
                ))),
            })
            .collect()
    }
}
