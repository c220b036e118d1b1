//! What `virsh save` writes: libvirt's header, the domain's XML, and QEMU's migration stream.

use dormouse_block::{Result, Source, read_vec_at};

use super::{Described, Kind, libvirt};
use crate::saved_state::libvirt::{Header, probe};
use crate::{MachineDescription, SavedState};

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
        probe(head)
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let xml = Header::read(&*file.source)?.xml(&*file.source)?;
        let mut machine = libvirt::domain(&xml)?;
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
