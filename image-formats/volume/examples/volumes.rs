//! Lists the volumes of the disks named, with the digest of each: `volumes DISK... [--key FILE]`.
#![expect(clippy::print_stdout, reason = "it lists")]

use std::sync::Arc;

use dormouse_block::{Error, HostFile, Result, digest_of};
use dormouse_volume::{DiskInput, Keys, volumes_with_keys};

fn main() -> Result<()> {
    let mut disks = Vec::new();
    let mut keys = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--key" {
            let file = arguments.next().unwrap_or_default();
            keys.push(std::fs::read(&file).map_err(|error| Error::io("cannot read a key", error))?);
            continue;
        }
        let name = format!("disk{}", disks.len());
        disks.push(DiskInput::new(
            name,
            Arc::new(HostFile::open(argument.as_ref())?),
        ));
    }
    let map = volumes_with_keys(&disks, &Keys::new(keys)?);
    for volume in &map.volumes {
        let info = &volume.info;
        let sum =
            digest_of(&*volume.source).map_or_else(|error| error.to_string(), |sum| sum.hex());
        println!(
            "{} {} {:?} {:?} {sum}",
            info.name, info.size, info.layout, info.device_names
        );
        println!("  {:?} {:?}", info.content, volume.placement);
        if let Some(origin) = &info.snapshot_of {
            println!("  a snapshot of {origin}");
        }
    }
    for gap in &map.gaps {
        println!("gap {gap}");
    }
    for note in &map.notes {
        println!("note {}: {}", note.at, note.what);
    }
    Ok(())
}
