//! Partition tables that are recognised and not read: named in a gap, never taken for a disk without partitions.

use dormouse_block::{Error, Gap, Result, Source, read_vec_at};

use crate::{Found, Keys, Volume, VolumeSystem, identify};

/// The volume system that stands for all of them.
pub(crate) struct Foreign;

/// Name, offset and magic, as the tables' own definitions give them.
const TABLES: &[(&str, u64, &[u8])] = &[
    ("Sun disk label", 508, b"\xda\xbe"),
    ("SGI disk label", 0, b"\x0b\xe5\xa9\x41"),
    ("Apple partition map", 512, b"PM\0\0"),
    ("BSD disk label", 512, b"\x57\x45\x56\x82"),
    ("BSD disk label", 64, b"\x57\x45\x56\x82"),
    ("AIX disk label", 0, b"\xc9\xc2\xd4\xc1"),
];

impl VolumeSystem for Foreign {
    fn name(&self) -> &'static str {
        "foreign"
    }

    fn find(&self, candidates: &[Volume], _: &Keys) -> Found {
        let mut found = Found::default();
        for (position, volume) in candidates.iter().enumerate() {
            let Some(name) = look(volume).ok().flatten() else {
                continue;
            };
            found.claimed.push(position);
            let error = Error::unsupported(format!("a {name} divides it, which is not read"));
            found.gaps.push(Gap::from_error(&error, &volume.locator()));
        }
        found
    }
}

/// The name of the table on `volume`, if it carries one and no filesystem.
fn look(volume: &Volume) -> Result<Option<&'static str>> {
    let source: &dyn Source = &*volume.source;
    let bsd = volume
        .info
        .partition
        .as_ref()
        .is_some_and(|partition| matches!(partition.kind.as_str(), "0xa5" | "0xa6" | "0xa9"));
    if !volume.is_disk() && !bsd {
        return Ok(None);
    }
    for (name, offset, magic) in TABLES {
        if read_vec_at(source, *offset, magic.len()).is_ok_and(|bytes| bytes == *magic)
            && identify(source)?.is_none()
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
