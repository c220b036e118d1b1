//! Saved states as QEMU and libvirt write them, against what QEMU itself says of the same stopped machine's memory.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod oracle;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use dormouse_block::{Bytes, ErrorKind, HostFile, Meter, Result, Source};
use dormouse_disk::{
    DenyAll, LibraryGate, Piece, RamRead, SavedMemory, StateEvidence, StateMeaning, recognise_state,
};
use oracle::{Random, fixtures, image, run};
use sha2::{Digest as _, Sha256};

/// Bytes of the machines' memory.
const RAM: usize = 32 << 20;
/// What the processor sees here is video memory and firmware, not the machine's own memory.
const HOLE: std::ops::Range<usize> = 0xa_0000..0x10_0000;

/// Runs a stopped machine whose memory holds `seeded` from 2 MiB on, and says these commands to its monitor.
fn machine(folder: &Path, more: &[&str], commands: &[String]) {
    let seeded = folder.join("seeded");
    if !seeded.exists() {
        let mut random = Random(11);
        let bytes: Vec<u8> = (0..3 << 20)
            .flat_map(|at| match at >> 16 & 3 {
                // Pages of one byte, of none, and of anything.
                0 => [0x41],
                1 => [0],
                _ => [random.next().to_le_bytes()[0]],
            })
            .collect();
        std::fs::write(&seeded, bytes).unwrap();
    }
    let mut child = Command::new("qemu-system-x86_64")
        .args(["-machine", "pc,accel=tcg", "-m", "32", "-S", "-nodefaults"])
        .args(["-display", "none", "-monitor", "stdio", "-device"])
        .arg(format!(
            "loader,file={},addr=0x200000,force-raw=on",
            seeded.display()
        ))
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the oracle qemu-system-x86_64 is required");
    let mut input = child.stdin.take().unwrap();
    for command in commands {
        writeln!(input, "{command}").unwrap();
    }
    writeln!(input, "quit").unwrap();
    drop(input);
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && !said.contains("Error"),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn source(path: &Path) -> Arc<dyn Source> {
    Arc::new(HostFile::open(path).unwrap())
}

/// The memory of a state, put together block by block: the last that came of a page counts.
fn blocks(state: &SavedMemory) -> Result<(BTreeMap<String, Vec<u8>>, RamRead)> {
    let mut blocks: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let read = state.read(&mut |piece| {
        let (block, offset, len) = match piece {
            Piece::Bytes {
                block,
                offset,
                bytes,
            } => (block, *offset, bytes.len()),
            Piece::Fill {
                block, offset, len, ..
            } => (block, *offset, usize::try_from(*len).unwrap()),
        };
        let memory = blocks.entry((*block).to_owned()).or_default();
        let from = usize::try_from(offset).unwrap();
        if memory.len() < from + len {
            memory.resize(from + len, 0);
        }
        match piece {
            Piece::Bytes { bytes, .. } => memory[from..from + len].copy_from_slice(bytes),
            Piece::Fill { byte, .. } => memory[from..from + len].fill(*byte),
        }
        Ok(())
    })?;
    for block in &read.blocks {
        let memory = blocks.entry(block.name.clone()).or_default();
        memory.resize(usize::try_from(block.len).unwrap(), 0);
    }
    Ok((blocks, read))
}

fn opened(path: &Path) -> SavedMemory {
    let gate = LibraryGate::new([path.parent().unwrap()]).unwrap();
    SavedMemory::open(path, &gate, &Meter::unlimited())
        .unwrap_or_else(|error| panic!("{}", error.with_causes()))
        .unwrap_or_else(|| panic!("{} was not recognised", path.display()))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The digest of a machine's memory without the hole.
fn digest_of_ram(memory: &[u8]) -> String {
    assert_eq!(memory.len(), RAM);
    digest(&[&memory[..HOLE.start], &memory[HOLE.end..]].concat())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A stopped machine in every form in which QEMU saves it, and its memory as `pmemsave` gives it.
struct Saved {
    folder: tempfile::TempDir,
    ram: String,
}

impl Saved {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                &text(&at("disk.qcow2")),
                "8M",
            ],
        );
        let drive = format!("file={},format=qcow2,if=virtio", at("disk.qcow2").display());
        machine(
            folder.path(),
            &["-drive", &drive],
            &[
                format!("pmemsave 0 {RAM} \"{}\"", at("pmem").display()),
                format!("dump-guest-memory \"{}\"", at("core").display()),
                "savevm asleep".to_owned(),
                format!("migrate file:{}", at("stream").display()),
            ],
        );
        machine(
            folder.path(),
            &[],
            &[
                "migrate_set_capability mapped-ram on".to_owned(),
                format!("migrate file:{}", at("mapped").display()),
            ],
        );
        // What libvirt calls sparse: the same, behind its own header.
        let header = libvirt_header(b"LibvirtQemudSave", 6);
        std::fs::write(at("sparse.save"), &header).unwrap();
        machine(
            folder.path(),
            &[],
            &[
                "migrate_set_capability mapped-ram on".to_owned(),
                format!(
                    "migrate file:{},offset={}",
                    at("sparse.save").display(),
                    header.len()
                ),
            ],
        );
        let ram = digest_of_ram(&std::fs::read(at("pmem")).unwrap());
        Self { folder, ram }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn memory_put_together_is_the_memory_that_qemu_itself_saves() {
    let saved = Saved::new();
    for (name, format) in [
        ("stream", "QEMU migration stream"),
        ("mapped", "QEMU migration stream"),
        ("sparse.save", "libvirt save"),
    ] {
        let state = opened(&saved.at(name));
        assert_eq!(state.evidence.format, format);
        assert_eq!(state.evidence.meaning, StateMeaning::Suspended);
        assert_eq!((state.evidence.offset, state.evidence.verified), (0, true));
        let (memory, read) = blocks(&state).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.blocks[0].name, "pc.ram");
        assert_eq!(digest_of_ram(&memory["pc.ram"]), saved.ram, "{name}");
    }
    // Behind the virtual disk of a qcow2.
    let disk = image(&saved.at("disk.qcow2"));
    let point = disk.point("asleep").unwrap().id.clone();
    let memory = disk.memory(&point).unwrap().unwrap();
    let state = SavedMemory::of(memory, "").unwrap().unwrap();
    assert_eq!(
        digest_of_ram(&blocks(&state).unwrap().0["pc.ram"]),
        saved.ram
    );
    // Banks of a core, by their addresses.
    let state = opened(&saved.at("core"));
    assert_eq!(state.evidence.meaning, StateMeaning::Dump);
    let pmem = std::fs::read(saved.at("pmem")).unwrap();
    let mut seen = 0;
    for (address, bank) in blocks(&state).unwrap().0 {
        let from = usize::from_str_radix(&address[2..], 16).unwrap();
        if from < RAM && !HOLE.contains(&from) {
            let end = (from + bank.len()).min(RAM);
            let own = if from < HOLE.start {
                end.min(HOLE.start)
            } else {
                end
            };
            assert_eq!(bank[..own - from], pmem[from..own], "{address}");
            seen += own - from;
        }
    }
    assert!(seen >= RAM - HOLE.len(), "{seen}");
    // Packed by whoever was asked to.
    let stream = text(&saved.at("stream"));
    for (program, name) in [
        ("gzip", "packed.gz"),
        ("bzip2", "packed.bz2"),
        ("xz", "packed.xz"),
        ("lzop", "packed.lzo"),
        ("zstd", "packed.zst"),
    ] {
        let level = if program == "xz" { "-0c" } else { "-1c" };
        let script = format!("{program} {level} '{stream}' > '{}'", text(&saved.at(name)));
        run("sh", &["-c", &script]);
        let state = opened(&saved.at(name));
        assert_eq!(state.evidence.format, "packed QEMU migration stream");
        assert!(state.evidence.says[0].contains(program));
        assert_eq!(
            digest_of_ram(&blocks(&state).unwrap().0["pc.ram"]),
            saved.ram,
            "{program}"
        );
        // And behind libvirt's header, as its own programs are asked to.
        let number = ["raw", "gzip", "bzip2", "xz", "lzop", "zstd"];
        let number = number.iter().position(|known| *known == program).unwrap();
        let mut bytes = libvirt_header(b"LibvirtQemudSave", u32::try_from(number).unwrap());
        bytes.extend(std::fs::read(saved.at(name)).unwrap());
        let state = SavedMemory::of(Arc::new(Bytes::new(bytes)), "x.save").unwrap();
        let state = state.unwrap();
        assert_eq!(state.evidence.format, "libvirt save");
        assert_eq!(
            digest_of_ram(&blocks(&state).unwrap().0["pc.ram"]),
            saved.ram,
            "libvirt's {program}"
        );
    }
    cut_states_end_in_an_error(&saved);
}

fn libvirt_header(magic: &[u8], packing: u32) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    for number in [2, 20, 1, packing, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.resize(92, 0);
    bytes.extend(b"<domain>x</domain>\0\0");
    bytes
}

/// A state cut anywhere is an error by name, whatever was handed over before.
fn cut_states_end_in_an_error(saved: &Saved) {
    let mut random = Random(5);
    for name in [
        "stream",
        "mapped",
        "core",
        "packed.gz",
        "packed.lzo",
        "packed.zst",
    ] {
        let whole = std::fs::read(saved.at(name)).unwrap();
        for _ in 0..12 {
            // Behind the memory come the devices, which nobody reads.
            let len = random.below(u64::try_from(whole.len()).unwrap() * 3 / 5);
            let part = whole[..usize::try_from(len).unwrap()].to_vec();
            let state = match SavedMemory::of(Arc::new(Bytes::new(part)), name) {
                Ok(Some(state)) => state,
                Ok(None) => continue,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} {len}: {error}");
                    continue;
                }
            };
            let error = state.read(&mut |_| Ok(())).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Corrupt,
                "{name} cut at {len}: {}",
                error.with_causes()
            );
        }
    }
}

/// What a guest that ran left in its memory: as it is saved while it runs, pages come again.
#[test]
fn a_machine_saved_while_its_firmware_runs_is_what_it_is_once_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    machine(
        folder.path(),
        &[],
        &[
            "cont".to_owned(),
            format!("migrate file:{}", at("stream").display()),
            format!("pmemsave 0 {RAM} \"{}\"", at("pmem").display()),
        ],
    );
    let (memory, _) = blocks(&opened(&at("stream"))).unwrap();
    let pmem = std::fs::read(at("pmem")).unwrap();
    assert_eq!(digest_of_ram(&memory["pc.ram"]), digest_of_ram(&pmem));
}

/// The real thing: `B.txt` was written and never synced, so it is in memory alone.
#[test]
fn a_file_that_never_reached_the_disk_is_in_the_real_saved_memory() {
    // sha256 of B.txt, as the guest itself said (transcript.txt).
    const B_TXT: &str = "4849b6de9f4dd054b6b8bb1c256f1cc96d8fa49d18c61188befce5012c8ec077";
    const A_TXT: &str = "73cef8cfcf6adfe8c71c9442f899df9093885d057044599b9ea422a75e80e084";
    let transcript = fixtures().join("saved-state/libvirt/transcript.txt");
    let transcript = std::fs::read_to_string(transcript).unwrap();
    assert!(transcript.contains(&format!("{B_TXT}  B.txt")));
    // The tool that printed it lost the first letter of the other.
    assert!(transcript.contains("A.txt"));
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("save-raw.img.zst", "alpine.save"),
        ("disk-at-save-raw.qcow2.zst", "disk.qcow2"),
    ] {
        let from = fixtures().join("saved-state/libvirt").join(from);
        let to = folder.path().join(to);
        run("zstd", &["-q", "-d", &text(&from), "-o", &text(&to)]);
    }
    let state = opened(&folder.path().join("alpine.save"));
    assert_eq!(
        state.evidence,
        StateEvidence {
            format: "libvirt save".to_owned(),
            magic: "LibvirtQemudSave".to_owned(),
            offset: 0,
            meaning: StateMeaning::Suspended,
            verified: true,
            says: vec![
                "the machine ran when it was saved".to_owned(),
                "the memory's stream begins at byte 67410 (raw)".to_owned(),
            ],
        }
    );
    let (memory, read) = blocks(&state).unwrap();
    assert_eq!(read.blocks[0].name, "pc.ram");
    // A small file fills the beginning of a page of the page cache.
    let files = |bytes: &[u8]| -> Vec<String> {
        bytes
            .chunks(1024)
            .filter_map(|block| {
                let len = block.iter().position(|byte| *byte == 0)?;
                (len > 0).then(|| digest(&block[..len]))
            })
            .collect()
    };
    let in_memory = files(&memory["pc.ram"]);
    assert!(in_memory.iter().any(|digest| digest == B_TXT));
    let disk = image(&folder.path().join("disk.qcow2"));
    let disk = disk.open_point("active").unwrap();
    let mut bytes = vec![0; usize::try_from(disk.len()).unwrap()];
    disk.read_exact_at(0, &mut bytes).unwrap();
    let on_disk = files(&bytes);
    assert!(!on_disk.iter().any(|digest| digest == B_TXT));
    // What was synced is in both.
    let synced = |all: &[String]| all.iter().any(|digest| digest == A_TXT);
    assert!(synced(&in_memory) && synced(&on_disk));
}

/// How many bytes are read to say what a file is.
#[test]
fn a_power_state_is_decided_from_the_head_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.save");
    let mut bytes = libvirt_header(b"LibvirtQemudPart", 0);
    bytes.extend(b"QEVM\0\0\0\x03");
    std::fs::write(&path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(16 << 30).unwrap();
    let meter = Meter::unlimited();
    let state = SavedMemory::open(&path, &DenyAll, &meter).unwrap().unwrap();
    assert_eq!(state.evidence.meaning, StateMeaning::Unfinished);
    assert!(meter.read() <= 8192, "{} bytes", meter.read());
    // A state that was broken off has no whole memory.
    let error = state.read(&mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn other_hypervisors_states_are_told_by_their_heads() {
    let head = |start: &[u8]| {
        let mut bytes = start.to_vec();
        bytes.resize(8192, 0);
        Arc::new(Bytes::new(bytes)) as Arc<dyn Source>
    };
    let keys = [&[0x14, 0x20, 0x28, 0x01][..], &[0; 60], b"/savedstate/x"].concat();
    for (bytes, name, format, verified) in [
        (
            &b"\xd2\xbe\xd2\xbe\x08\0\0\0\x01\0\0\0"[..],
            "a.vmss",
            "VMware state",
            false,
        ),
        (
            b"\x7fVirtualBox SavedState V2.0\n",
            "a.sav",
            "VirtualBox state",
            false,
        ),
        (&keys, "a.vmrs", "Hyper-V state", false),
        (b"x", "a.vsv", "Hyper-V state before 2016", false),
        (
            &0x0710_1984_8664_0003_u64.to_le_bytes(),
            "snapshot",
            "Firecracker snapshot",
            false,
        ),
        (
            b"{\"snapshots\":{}}",
            "state.json",
            "Cloud Hypervisor snapshot",
            false,
        ),
        (b"KDUMP   ", "vmcore", "kdump file", false),
    ] {
        let found = recognise_state(&head(bytes), name).unwrap().unwrap();
        assert_eq!((found.format.as_str(), found.verified), (format, verified));
    }
    // A store without a state, a configuration, the core of a process, and nothing at all.
    let off = head(&[0x14, 0x20, 0x28, 0x01]);
    assert_eq!(recognise_state(&off, "a.vmrs").unwrap(), None);
    let vmcx = source(&fixtures().join("saved-state/hyperv/test.vmcx"));
    assert_eq!(recognise_state(&vmcx, "test.vmcx").unwrap(), None);
    assert_eq!(recognise_state(&head(b""), "a").unwrap(), None);
    let empty: Arc<dyn Source> = Arc::new(Bytes::new(Vec::new()));
    assert_eq!(recognise_state(&empty, "a").unwrap(), None);
}

/// VMware's memory, within its state and beside it.
#[test]
fn memory_of_vmware_is_found_within_and_beside() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = b"\xd2\xbe\xd2\xbe\x08\0\0\0\x01\0\0\0".to_vec();
    let mut entry = b"memory".to_vec();
    entry.resize(64, 0);
    bytes.extend(entry);
    bytes.extend(200_u64.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(200, 0);
    // A number with one index, then the block.
    bytes.extend([0x44, 4]);
    bytes.extend(b"size");
    bytes.extend([0; 8]);
    bytes.extend([0x3f, 6]);
    bytes.extend(b"Memory");
    bytes.extend(8192_u64.to_le_bytes());
    bytes.extend(8192_u64.to_le_bytes());
    bytes.extend(3_u16.to_le_bytes());
    bytes.extend([9; 3]);
    bytes.extend([7; 8192]);
    bytes.extend([0; 2]);
    let path = folder.path().join("web.vmss");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(blocks(&opened(&path)).unwrap().0["memory"], [7; 8192]);
    let packed = [&bytes[..227], &4096_u64.to_le_bytes()[..], &bytes[235..]].concat();
    std::fs::write(&path, packed).unwrap();
    let kind = blocks(&opened(&path)).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::Unsupported | ErrorKind::Corrupt));
    std::fs::write(folder.path().join("web.vmem"), [5; 4096]).unwrap();
    assert_eq!(blocks(&opened(&path)).unwrap().0["vmem"], [5; 4096]);
}

/// A stream by hand: `records` in the section `ram` of one block of 64 KiB.
fn by_hand(records: &[u8]) -> Arc<dyn Source> {
    let mut bytes = b"QEVM\0\0\0\x03".to_vec();
    bytes.push(1);
    bytes.extend(7_u32.to_be_bytes());
    bytes.extend(b"\x03ram");
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(4_u32.to_be_bytes());
    bytes.extend((65_536_u64 | 4).to_be_bytes());
    bytes.extend(b"\x01r");
    bytes.extend(65_536_u64.to_be_bytes());
    bytes.extend(0x10_u64.to_be_bytes());
    bytes.push(3);
    bytes.extend(7_u32.to_be_bytes());
    bytes.extend(records);
    bytes.extend(0x10_u64.to_be_bytes());
    Arc::new(Bytes::new(bytes))
}

#[test]
fn what_a_stream_must_not_say_is_refused_by_name() {
    let record = |word: u64, rest: &[u8]| [&word.to_be_bytes()[..], rest].concat();
    let page = [1; 4096];
    let good = [
        record(0x1000 | 8, &[b"\x01r", &page[..]].concat()),
        record(0x2000 | 8 | 0x20, &page),
        record(0x3000 | 2 | 0x20, &[5]),
    ]
    .concat();
    let state = SavedMemory::of(by_hand(&good), "").unwrap().unwrap();
    let memory = &blocks(&state).unwrap().0["r"];
    assert_eq!(memory[0x1000..0x3000], [1; 8192]);
    assert_eq!(memory[0x3000..0x4000], [5; 4096]);
    assert!(memory[0x4000..].iter().all(|byte| *byte == 0));
    for (records, kind, word) in [
        (
            record(8 | 0x20, &page),
            ErrorKind::Corrupt,
            "the one before the first",
        ),
        (
            record(8, &[b"\x01q", &page[..]].concat()),
            ErrorKind::Corrupt,
            "not listed",
        ),
        (
            record(0x1_0000 | 8, &[b"\x01r", &page[..]].concat()),
            ErrorKind::Corrupt,
            "beyond the end of its block",
        ),
        (record(0x40, b"\x01r"), ErrorKind::Unsupported, "XBZRLE"),
        (record(0x100, b"\x01r"), ErrorKind::Unsupported, "compress"),
        (record(0x200, b""), ErrorKind::Unsupported, "multifd"),
        (record(0x80, b""), ErrorKind::Unsupported, "RDMA"),
        (record(0x800, b""), ErrorKind::Corrupt, "unknown flags"),
        (record(4, b""), ErrorKind::Corrupt, "listed twice"),
        (record(8, b"\x01r"), ErrorKind::Corrupt, "cut off"),
    ] {
        let state = SavedMemory::of(by_hand(&records), "").unwrap().unwrap();
        let error = state.read(&mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), kind, "{word}: {error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    // Memory that is sent without end.
    let again = record(2, b"\x01r\0").repeat(64 * 16 + 1);
    let state = SavedMemory::of(by_hand(&again), "").unwrap().unwrap();
    let error = state.read(&mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

/// States changed at random: none makes a reader panic, hang, or hand over more than it may.
#[test]
fn mutated_states_never_panic_and_never_hang() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let runs = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(100, |runs| runs.parse().unwrap());
    let record = |word: u64, rest: &[u8]| [&word.to_be_bytes()[..], rest].concat();
    let records = [
        record(0x1000 | 8, &[b"\x01r", &[1; 4096][..]].concat()),
        record(0x2000 | 2 | 0x20, &[5]),
    ]
    .concat();
    let stream = by_hand(&records);
    let mut plain = vec![0; usize::try_from(stream.len()).unwrap()];
    stream.read_exact_at(0, &mut plain).unwrap();
    std::fs::write(at("plain"), &plain).unwrap();
    let mut seeds = vec![plain.clone()];
    for program in ["gzip", "bzip2", "xz", "lzop", "zstd"] {
        let script = format!(
            "{program} -c '{}' > '{}'",
            text(&at("plain")),
            text(&at("x"))
        );
        run("sh", &["-c", &script]);
        seeds.push(std::fs::read(at("x")).unwrap());
    }
    seeds.push([libvirt_header(b"LibvirtQemudSave", 0), plain].concat());
    machine(
        folder.path(),
        &["-m", "4"],
        &[
            "migrate_set_capability mapped-ram on".to_owned(),
            format!("dump-guest-memory \"{}\"", at("core").display()),
            format!("migrate file:{}", at("mapped").display()),
        ],
    );
    for name in ["core", "mapped"] {
        seeds.push(std::fs::read(at(name)).unwrap());
    }
    let mut random = Random(0x00d0_4303);
    let handed = Mutex::new(0_u64);
    let mut opened = 0;
    for seed in &seeds {
        for _ in 0..runs {
            let mut bytes = seed.clone();
            for _ in 0..=random.below(3) {
                // Heads are where structures are.
                let len = u64::try_from(bytes.len()).unwrap();
                let bound = if random.below(4) == 0 {
                    len
                } else {
                    len.min(600)
                };
                let place = usize::try_from(random.below(bound)).unwrap();
                bytes[place] = random.next().to_le_bytes()[0];
            }
            if random.below(10) == 0 {
                let len = random.below(u64::try_from(bytes.len()).unwrap());
                bytes.truncate(usize::try_from(len).unwrap());
            }
            let source: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
            if let Ok(Some(state)) = SavedMemory::of(source, "state") {
                opened += 1;
                *handed.lock().unwrap() = 0;
                let _ = state.read(&mut |piece| {
                    if let Piece::Bytes { bytes, .. } = piece {
                        *handed.lock().unwrap() += u64::try_from(bytes.len()).unwrap();
                    }
                    Ok(())
                });
                assert!(*handed.lock().unwrap() < 1 << 30);
            }
        }
    }
    assert!(opened > seeds.len() * runs / 3, "only {opened} were opened");
}
