//! States of other hypervisors, known by their heads. Where the memory is a plain file beside them, it is read.

use dormouse_block::{Error, Result, le_u64, read_vec_at};

use super::pieces::Pieces;
use super::{Looked, Reading, Signs, StateFormat, StateMeaning, not_read, raw};

/// How much of Hyper-V's store is searched for keys of a saved state.
const SEARCHED: u64 = 2 << 20;
/// A store of Hyper-V that holds no state has some hundred KiB.
const STORE: u64 = 8 << 20;

/// VirtualBox' `.sav` (its `SSM.cpp`): the memory is in the unit `pgm`, packed.
pub(super) const VIRTUALBOX: StateFormat = StateFormat {
    name: "VirtualBox state",
    is_verified: false,
    beside: &[],
    recognise: |looked| {
        const MAGIC: &[u8] = b"\x7fVirtualBox SavedState V";
        let version = looked.head.get(MAGIC.len()..MAGIC.len().saturating_add(3));
        Ok(looked.starts_with(MAGIC).then(|| {
            let version = String::from_utf8_lossy(version.unwrap_or_default()).into_owned();
            let magic = format!(
                "\\x7fVirtualBox SavedState V{}",
                dormouse_block::escape_terminal(&version)
            );
            Signs::new(magic, 0, StateMeaning::Suspended)
        }))
    },
    read: |_, _| Err(not_read("a state of VirtualBox")),
};

/// Hyper-V's `.vmrs`: its store of keys and values. A machine that is off has one too, without keys of a saved state.
pub(super) const HYPERV: StateFormat = StateFormat {
    name: "Hyper-V state",
    is_verified: false,
    beside: &[],
    recognise: hyperv,
    read: |_, _| Err(not_read("a state of Hyper-V")),
};

fn hyperv(looked: &Looked<'_>) -> Result<Option<Signs>> {
    const MAGIC: &[u8] = &[0x14, 0x20, 0x28, 0x01];
    if !looked.starts_with(MAGIC) || looked.extension() != "vmrs" {
        return Ok(None);
    }
    let len = looked.source.len();
    let searched = usize::try_from(len.min(SEARCHED)).unwrap_or(0);
    let head = read_vec_at(&**looked.source, 0, searched)?;
    let wide: Vec<u8> = "savedstate".bytes().flat_map(|byte| [byte, 0]).collect();
    let has = |key: &[u8]| memchr::memmem::find(&head, key).is_some();
    let signs = Signs::new("0x01282014", 0, StateMeaning::Suspended);
    if has(b"savedstate") || has(&wide) {
        return Ok(Some(signs.saying("it has keys of a saved state")));
    }
    // What is this large holds memory, wherever its keys are.
    Ok((len > STORE).then(|| signs.saying("it is as large as saved memory")))
}

/// Hyper-V's older states: `.vsv` for devices, whose layout nobody has published, and `.bin` for the memory.
pub(super) const HYPERV_VSV: StateFormat = StateFormat {
    name: "Hyper-V state before 2016",
    is_verified: false,
    beside: &["*.bin"],
    recognise: |looked| {
        let is = looked.extension() == "vsv" && !looked.head.is_empty();
        Ok(is.then(|| Signs::new("named .vsv", 0, StateMeaning::Suspended)))
    },
    read: plain,
};

/// Firecracker's snapshots: the state of devices behind a magic, the memory in a file whose name the user chose.
pub(super) const FIRECRACKER: StateFormat = StateFormat {
    name: "Firecracker snapshot",
    is_verified: false,
    beside: &["*.mem", "mem_file", "memory"],
    recognise: |looked| {
        let Ok(word) = le_u64(looked.head, 0) else {
            return Ok(None);
        };
        // The lowest 16 bits are a version.
        let processor = match word >> 16 {
            0x0710_1984_8664 => "x86-64",
            0x0710_1984_aaaa => "arm64",
            _ => return Ok(None),
        };
        let signs = Signs::new(format!("{word:#018x}"), 0, StateMeaning::Suspended);
        Ok(Some(signs.saying(format!("of {processor}"))))
    },
    read: plain,
};

/// Cloud Hypervisor's `state.json`, with the memory in `memory-ranges` and the machine in `config.json`.
pub(super) const CLOUD_HYPERVISOR: StateFormat = StateFormat {
    name: "Cloud Hypervisor snapshot",
    is_verified: false,
    beside: &["memory-ranges"],
    recognise: |looked| {
        let is = looked.name == "state.json"
            && looked.head.trim_ascii_start().starts_with(b"{")
            && memchr::memmem::find(looked.head, b"\"snapshots\"").is_some();
        Ok(is.then(|| Signs::new("{\"snapshots\"", 0, StateMeaning::Suspended)))
    },
    read: plain,
};

/// Dumps in makedumpfile's own form, flattened or not.
pub(super) const KDUMP: StateFormat = StateFormat {
    name: "kdump file",
    is_verified: false,
    beside: &[],
    recognise: |looked| {
        let mut magics = ["KDUMP   ", "makedumpfile"].iter();
        let magic = magics.find(|magic| looked.starts_with(magic.as_bytes()));
        Ok(magic.map(|magic| Signs::new(*magic, 0, StateMeaning::Dump)))
    },
    read: |_, _| Err(not_read("a dump that makedumpfile packed")),
};

fn plain(reading: &Reading<'_>, pieces: &mut Pieces<'_, '_>) -> Result<()> {
    let memory = reading.beside.ok_or_else(|| {
        Error::unsupported(
            "its memory is in a file of its own, which is not beside it under a known name",
        )
    })?;
    raw::hand_over(memory, (0, memory.len()), "memory", pieces)
}
