//! Cloud Hypervisor's `config.json` (its `vmm/src/vm_config.rs`), which stands in the folder of each of its snapshots beside
//! `state.json` and `memory-ranges` (`docs/snapshot_restore.md`).

use dormouse_block::{Error, Result};
use serde_json::Value;

use super::bus::{Attached, Bus, in_order};
use super::{Described, Kind, MAX_DISKS, at_most};
use crate::{DiskPlace, MachineDescription, SavedState};

/// The kind.
pub(super) struct CloudHypervisor;

impl Kind for CloudHypervisor {
    fn name(&self) -> &'static str {
        "cloud-hypervisor"
    }

    fn probe(&self, head: &[u8]) -> bool {
        let has = |key: &[u8]| memchr::memmem::find(head, key).is_some();
        head.trim_ascii_start().starts_with(b"{") && has(b"\"boot_vcpus\"") && has(b"\"cpus\"")
    }

    fn read(&self, file: &Described<'_>) -> Result<MachineDescription> {
        let broken = |error| Error::corrupt("it is no JSON").because(error);
        let config: Value = serde_json::from_str(&file.text()?).map_err(broken)?;
        let disks = config.get("disks").and_then(Value::as_array);
        let disks = disks.map(Vec::as_slice).unwrap_or_default();
        at_most(disks.len(), MAX_DISKS, "disks")?;
        let attached = disks.iter().zip(0..).map(|(disk, unit)| Attached {
            bus: Bus::Virtio,
            controller: 0,
            unit,
            place: match disk.get("path").and_then(Value::as_str) {
                Some(path) => DiskPlace::File(vec![path.to_owned()]),
                None => DiskPlace::Elsewhere("it names no file".to_owned()),
            },
            format: None,
            snapshot: None,
        });
        let folder = file.path.canonicalize().ok();
        let folder = folder
            .as_deref()
            .and_then(|path| path.parent()?.file_name());
        let mut machine = MachineDescription {
            name: folder.unwrap_or_default().to_string_lossy().into_owned(),
            firmware: None,
            memory: config.pointer("/memory/size").and_then(Value::as_u64),
            disks: in_order(attached.collect()),
            ..MachineDescription::default()
        };
        if file.beside(b"state.json")?.is_some() {
            machine.saved_states.push(SavedState {
                what: "a snapshot of Cloud Hypervisor".to_owned(),
                names: vec!["state.json".to_owned()],
            });
        }
        Ok(machine)
    }
}
