//! The proof that only cold disks are written over: suspended, hibernated and running machines are refused.
#![allow(missing_docs, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Bytes, ErrorKind, Source};
use dormouse_disk::{ACTIVE, FormatName, Keys, LibraryGate, OpenOptions};
use dormouse_overlay::{ColdDisk, Container, Evidence, Output, Overlay, OverlayOptions, Packing};
use oracle::{image, open, output, run};

fn cold(path: &Path, point: &str) -> ColdDisk {
    ColdDisk::prove(&*image(path), point, &Evidence::default())
        .unwrap_or_else(|error| panic!("{}", error.with_causes()))
}

struct Library(tempfile::TempDir);

impl Library {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn denied(result: dormouse_block::Result<ColdDisk>, word: &str) {
    let error = result
        .err()
        .unwrap_or_else(|| panic!("{word}: must be denied"));
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn suspended_point_is_never_injected() {
    let library = Library::new();
    let disk = library.at("disk.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "64M"],
    );
    oracle::savevm(&disk, "asleep");
    let opened = image(&disk);
    denied(
        ColdDisk::prove(&*opened, "asleep", &Evidence::default()),
        "suspended",
    );
    // The active state beside it keeps its own clusters and is cold.
    assert!(ColdDisk::prove(&*opened, ACTIVE, &Evidence::default()).is_ok());
    let saved = Evidence {
        saved_states: vec!["disk.save lies beside it".to_owned()],
        ..Evidence::default()
    };
    denied(ColdDisk::prove(&*opened, ACTIVE, &saved), "disk.save");
}

#[test]
fn a_memory_of_more_than_4_gib_proves_a_point_suspended_too() {
    let library = Library::new();
    let disk = library.at("disk.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "64M"],
    );
    oracle::savevm(&disk, "asleep");
    // As QEMU writes it for such a state: nothing in the old field, all of it in the extra data.
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&disk)
        .unwrap();
    let mut table = [0; 8];
    file.read_exact_at(&mut table, 64).unwrap();
    let at = u64::from_be_bytes(table);
    file.write_all_at(&[0; 4], at + 32).unwrap();
    file.write_all_at(&(5_u64 << 30).to_be_bytes(), at + 40)
        .unwrap();
    let opened = image(&disk);
    assert_eq!(opened.point("asleep").unwrap().memory, Some(5 << 30));
    denied(
        ColdDisk::prove(&*opened, "asleep", &Evidence::default()),
        "suspended",
    );
}

#[test]
fn a_running_machine_s_disk_is_never_injected() {
    let library = Library::new();
    let disk = library.at("disk.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "1M"],
    );
    let holder = oracle::hold_open(&disk, false);
    denied(
        ColdDisk::prove(&*image(&disk), ACTIVE, &Evidence::default()),
        "in use",
    );
    drop(holder);
    let proof = cold(&disk, ACTIVE);
    // And it cannot be started while it is being patched.
    let start = output("qemu-io", &["-c", "write 0 4k", disk.to_str().unwrap()]);
    assert!(!start.status.success());
    drop(proof);
    run("qemu-io", &["-c", "write 0 4k", disk.to_str().unwrap()]);
}

#[test]
fn a_hibernated_system_is_never_injected() {
    let library = Library::new();
    let disk = library.at("disk.raw");
    let file = std::fs::File::create(&disk).unwrap();
    file.set_len(1 << 20).unwrap();
    run("mkswap", &["-q", disk.to_str().unwrap()]);
    let prove = |evidence: &Evidence| ColdDisk::prove(&*image(&disk), ACTIVE, evidence);
    assert!(prove(&Evidence::default()).is_ok());
    let mut asleep = std::fs::read(&disk).unwrap();
    asleep[0xff6..0xff6 + 10].copy_from_slice(b"S1SUSPEND\0");
    let asleep: Arc<dyn Source> = Arc::new(Bytes::new(asleep));
    let other = Evidence {
        other_disks: vec![asleep.clone()],
        ..Evidence::default()
    };
    denied(prove(&other), "disk1 holds a hibernated system");
    let swap_file = Evidence {
        swap_files: vec![asleep],
        ..Evidence::default()
    };
    denied(prove(&swap_file), "swap file");
    file.write_all_at(b"S1SUSPEND\0", 0xff6).unwrap();
    denied(
        prove(&Evidence::default()),
        "disk0 holds a hibernated system",
    );
}

#[test]
fn a_filesystem_in_use_beside_an_unread_volume_is_not_proved_cold() {
    let library = Library::new();
    let disk = library.at("disk.raw");
    std::fs::File::create(&disk)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    run("mke2fs", &["-q", "-t", "ext4", disk.to_str().unwrap()]);
    let mut volume_group = vec![0; 1 << 20];
    volume_group[512..520].copy_from_slice(b"LABELONE");
    volume_group[536..544].copy_from_slice(b"LVM2 001");
    let evidence = Evidence {
        other_disks: vec![Arc::new(Bytes::new(volume_group))],
        ..Evidence::default()
    };
    let prove = |evidence: &Evidence| ColdDisk::prove(&*image(&disk), ACTIVE, evidence);
    assert!(
        prove(&evidence).is_ok(),
        "an unmounted filesystem has no user"
    );
    run(
        "debugfs",
        &[
            "-w",
            "-R",
            "feature +needs_recovery",
            disk.to_str().unwrap(),
        ],
    );
    denied(prove(&evidence), "disk1");
    // A crash alone is no sleep.
    assert!(prove(&Evidence::default()).is_ok());
}

#[test]
fn a_guest_s_header_under_a_forced_raw_format_stays_data() {
    let library = Library::new();
    let disk = library.at("disk.raw");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "1M"],
    );
    assert_eq!(open(&disk, None).err().unwrap().kind(), ErrorKind::Denied);
    let forced = open(&disk, Some(FormatName::RAW)).unwrap();
    let proof = ColdDisk::prove(&*forced, ACTIVE, &Evidence::default()).unwrap();
    let target = library.at("out.qcow2");
    Overlay::create(proof, &target, &OverlayOptions::default())
        .unwrap()
        .commit()
        .unwrap();
    let info = run(
        "qemu-img",
        &["info", "--output=json", target.to_str().unwrap()],
    );
    assert!(
        info.contains("\"backing-filename-format\": \"raw\""),
        "{info}"
    );
    // It is opened as what it was proved to be, by QEMU and by us.
    run("qemu-img", &["check", "-q", target.to_str().unwrap()]);
    assert_eq!(image(&target).files()[1].format, FormatName::RAW);
}

/// Nothing that is written here is encrypted, so nothing is written from what is.
#[test]
fn an_encrypted_base_is_never_written_from() {
    let library = Library::new();
    let (base, top) = (library.at("base.qcow2"), library.at("top.qcow2"));
    std::fs::write(library.at("key"), "open sesame").unwrap();
    let secret = format!("secret,id=key,file={}", library.at("key").display());
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let (base_name, top_name) = (base.to_str().unwrap(), top.to_str().unwrap());
    run(
        "qemu-img",
        &[
            "create", "-q", "--object", &secret, "-f", "qcow2", "-o", options, base_name, "1M",
        ],
    );
    run(
        "qemu-img",
        &[
            "create", "-q", "-u", "-f", "qcow2", "-b", base_name, "-F", "qcow2", top_name, "1M",
        ],
    );
    let gate = Arc::new(LibraryGate::new([library.at("")]).unwrap());
    let keys = Keys::new([b"open sesame".to_vec()]).unwrap();
    let opening = OpenOptions::new(gate).keys(keys);
    for path in [&base, &top] {
        for output in [
            Output::Overlay,
            Output::Standalone {
                packing: Packing::Plain,
            },
            Output::Image {
                container: Container::Raw,
                made: 0,
            },
        ] {
            let opened = dormouse_disk::open(path, &opening).unwrap();
            let proof = ColdDisk::prove(&*opened, ACTIVE, &Evidence::default()).unwrap();
            let target = library.at("out");
            let options = OverlayOptions {
                output,
                ..OverlayOptions::default()
            };
            let error = Overlay::create(proof, &target, &options).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let said = error.to_string();
            assert!(said.contains("base.qcow2 is encrypted with LUKS"), "{said}");
            assert!(!target.exists() && !Overlay::partial_path(&target).exists());
        }
    }
}
