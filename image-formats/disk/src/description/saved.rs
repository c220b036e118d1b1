//! What `virsh save` writes: libvirt's header, the domain's XML, and QEMU's migration stream
//! (libvirt, `src/qemu/qemu_saveimage.h`).

use dormouse_block::{Error, Result, Source, le_u32, read_vec_at};

use super::{Described, Kind, MAX_TEXT, libvirt};
use crate::{MachineDescription, SavedState};

/// A finished state, and one that is being written or was broken off.
const MAGICS: [&[u8; 16]; 2] = [b"LibvirtQemudSave", b"LibvirtQemudPart"];
/// Bytes of the header: the magic, five numbers, and fourteen unused.
const HEADER: usize = 92;
/// Versions that exist.
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=3;

/// The kind.
pub(super) struct Saved;

/// Whether `source` begins as a saved state does.
pub(super) fn is_saved(source: &dyn Source) -> Result<bool> {
    if source.len() < 16 {
        return Ok(false);
    }
    let head = read_vec_at(source, 0, 16)?;
    Ok(Saved.probe(&head))
}

impl Kind for Saved {
    fn name(&self) -> &'static str {
        "libvirt-save"
    }

    fn probe(&self, head: &[u8]) -> bool {
        MAGICS.iter().any(|magic| head.starts_with(*magic))
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let header = read_vec_at(&*file.source, 0, HEADER)?;
        let number = |at: usize| le_u32(&header, at);
        // Numbers are in the order of the host that saved; the version tells which.
        let version = number(16)?;
        let swapped = !VERSIONS.contains(&version);
        let of = |value: u32| if swapped { value.swap_bytes() } else { value };
        if !VERSIONS.contains(&of(version)) {
            return Err(Error::unsupported(format!(
                "version {version} of libvirt's saved states"
            )));
        }
        let len = u64::from(of(number(20)?));
        if len > MAX_TEXT {
            return Err(Error::limit(format!(
                "an XML of {len} bytes in a saved state"
            )));
        }
        let offset = u64::try_from(HEADER).unwrap_or(u64::MAX);
        let bytes = read_vec_at(
            &*file.source,
            offset,
            usize::try_from(len).unwrap_or(usize::MAX),
        )?;
        // A cookie of libvirt's own and padding follow the XML's NUL.
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut machine = libvirt::domain(&String::from_utf8_lossy(text))?;
        machine.saved_states.push(SavedState {
            what: "a state saved by libvirt".to_owned(),
            names: file
                .path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .into_iter()
                .collect(),
        });
        Ok(machine)
    }
}
