//! What the entries of all partition tables have in common.

use dormouse_block::{Error, Gap, Locator};
use serde::{Deserialize, Serialize};

use crate::kinds;
use crate::{Found, Volume};

/// An entry of a partition table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PartitionInfo {
    /// Its number, as the guest's kernel counts.
    pub number: u32,
    /// Its type: a GUID in lower case for GPT, `0x83` for MBR.
    pub kind: String,
    /// What that type is called, if it is well known.
    pub kind_name: Option<String>,
    /// Its name; control characters are spelled out.
    pub label: Option<String>,
    /// The `PARTUUID` that the guest knows it by.
    pub uuid: Option<String>,
    /// Marked for booting by firmware that looks for such a mark.
    pub bootable: bool,
}

impl PartitionInfo {
    /// Whether its type leaves room for a system with packages: boot loaders' and firmware's areas do not.
    #[must_use]
    pub fn may_hold_packages(&self) -> bool {
        !kinds::holds_no_files(&self.kind)
    }
}

/// A range of a partition table before it becomes a volume.
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) partition: PartitionInfo,
}

/// Turns the ranges of the table on `disk` into volumes, and what is wrong with them into gaps.
pub(crate) fn divide(disk: &Volume, system: &'static str, ranges: Vec<Range>, found: &mut Found) {
    let mut bounds: Vec<(u64, u64, u32)> = ranges
        .iter()
        .map(|range| {
            let end = range.start.saturating_add(range.size);
            (range.start, end, range.partition.number)
        })
        .collect();
    bounds.sort_unstable();
    let at =
        |number: u32| Locator::default().volume(format!("{}/{system}{number}", disk.info.name));
    let mut furthest: Option<(u64, u32)> = None;
    for (start, end, number) in bounds {
        if let Some((reach, other)) = furthest.filter(|(reach, _)| start < *reach) {
            let error = Error::corrupt(format!(
                "the partition overlaps partition {other}, which goes on to byte {reach}"
            ))
            .at_offset(start);
            found.gaps.push(Gap::from_error(&error, &at(number)));
        }
        if furthest.is_none_or(|(reach, _)| end > reach) {
            furthest = Some((end, number));
        }
    }
    for range in ranges {
        let number = range.partition.number;
        match disk.part(system, range.start, range.size, range.partition) {
            Ok(volume) => {
                if volume.info.truncated {
                    let error = Error::corrupt(format!(
                        "the partition has {} bytes, of which the disk has only {}",
                        range.size, volume.info.size
                    ));
                    found.gaps.push(Gap::from_error(&error, &at(number)));
                }
                found.volumes.push(volume);
            }
            Err(error) => found.gaps.push(Gap::from_error(&error, &at(number))),
        }
    }
}
