//! What sleeping machines remember: the kernel that they wake with, and where else they may sleep.

use std::fs;
use std::path::Path;

use dormouse_block::ErrorKind;
use dormouse_engine::{Inspection, Power, PowerSign};
use dormouse_remedy::KernelRelation;

use crate::world::{OS, STATUS, World, domain, run, saved, seen, stream};

const BUILD: &str = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.27-1 (2023-05-08)";

fn banner(release: &str, build: &str) -> String {
    format!("Linux version {release} (debian-kernel@lists.debian.org) (gcc-12 12.2.0) {build}")
}

/// A kernel's image as far as it says what it is.
fn kernel(release: &str, build: &str) -> String {
    let mut image = vec![0; 0x2000];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x1000_u16.to_le_bytes());
    let text = format!("{release} (debian-kernel@lists.debian.org) {build}");
    image[0x1200..0x1200 + text.len()].copy_from_slice(text.as_bytes());
    String::from_utf8(image).unwrap()
}

/// Memory in which a kernel's banner and its log say the same, and the log when it was started.
fn asleep(release: &str, build: &str) -> Vec<u8> {
    let text = banner(release, build);
    let residue = &text[text.len() - 2..];
    stream(&[
        (0x123, &format!("{text}\n")),
        (0x321, &format!("{text}{residue}\n")),
        (0, &format!("OSRELEASE={release}\nPAGESIZE=4096\n")),
        (8, &clock_set()),
    ])
}

/// A record of a kernel's log before 5.10: what it takes, its text, and that no device's names follow.
fn clock_set() -> String {
    let text = "rtc_cmos 00:03: setting system clock to 2026-11-20 12:40:07 UTC (1795178407)";
    format!("\u{1}\0\0\0\0\0\0\0\u{5c}\0\u{4c}\0\0\0\0\u{6}{text}")
}

/// Holds an inspection against its published schema.
fn valid(inspection: &Inspection) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/inspection-v3.json");
    let schema: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let fact = serde_json::to_value(inspection).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&fact)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{fact:#}");
    assert_eq!(
        &serde_json::from_value::<Inspection>(fact).unwrap(),
        inspection
    );
}

#[test]
fn the_kernel_in_memory_is_held_against_the_one_on_disk() {
    let world = World::new();
    let other = BUILD.replace("6.1.27-1", "6.1.27-2");
    world.disk(
        "web.qcow2",
        "qcow2",
        &[
            OS,
            ("var/lib/dpkg/status", STATUS),
            (
                "boot/vmlinuz-6.1.0-9-amd64",
                &kernel("6.1.0-9-amd64", BUILD),
            ),
        ],
    );
    let xml = domain(&[("vda", "web.qcow2", "qcow2")]);
    for (release, build, relation, restarts) in [
        ("6.1.0-9-amd64", BUILD, KernelRelation::Same, false),
        ("6.1.0-9-amd64", &other, KernelRelation::OtherBuild, true),
        ("6.1.0-8-amd64", BUILD, KernelRelation::Older, true),
        ("6.1.0-10-amd64", BUILD, KernelRelation::Newer, false),
    ] {
        // Right behind the XML and its NUL.
        let mut bytes = saved(&xml);
        bytes.truncate(92 + xml.len() + 1);
        bytes.extend(asleep(release, build));
        world.write("web.save", bytes);
        let machine = world.only();
        let inspection = machine
            .open_point("active")
            .unwrap()
            .inspect(&std::collections::BTreeSet::new())
            .unwrap();
        assert!(matches!(inspection.power, Power::Suspended { .. }));
        valid(&inspection);
        let memory = inspection.memory.unwrap();
        assert_eq!(memory.blocks[0].size, 256 << 10);
        assert_eq!(memory.started.unwrap().to_string(), "2026-11-20T12:40:07Z");
        assert!(
            inspection
                .gaps
                .iter()
                .all(|gap| !gap.why.contains("started"))
        );
        let woken = memory.woken.unwrap();
        assert_eq!(woken.relation, relation, "{release} {build}");
        assert_eq!(woken.restart_reason().is_some(), restarts);
        assert_eq!(woken.on_disk.build.as_deref(), Some(BUILD));
    }
}

#[test]
fn memory_that_speaks_of_two_kernels_names_none() {
    let world = World::new();
    let (one, two) = (
        banner("6.1.0-8-amd64", BUILD),
        banner("6.1.0-9-amd64", BUILD),
    );
    let bytes = stream(&[(9, &format!("{one}\n")), (9, &format!("{two}\n"))]);
    world.write("lone", &bytes);
    // A state that names no disk is all there is of its machine.
    for machine in [world.only(), world.alone("lone").unwrap()] {
        let inspection = machine
            .open_point("active")
            .unwrap()
            .inspect(&std::collections::BTreeSet::new())
            .unwrap();
        valid(&inspection);
        assert_eq!(inspection.power.as_str(), "suspended");
        assert!(!inspection.complete());
        assert_eq!(
            inspection.evidence[0].magic.as_deref(),
            Some("QEVM, version 3")
        );
        let memory = inspection.memory.unwrap();
        assert_eq!((memory.kernel, memory.candidates.len()), (None, 2));
        assert_eq!(memory.started, None);
        assert!(
            inspection
                .gaps
                .iter()
                .any(|gap| gap.why.contains("nor when that was started"))
        );
        let gaps: Vec<_> = inspection.gaps.iter().map(|gap| gap.why.as_str()).collect();
        assert!(
            gaps.iter()
                .any(|why| why.contains("6.1.0-8-amd64") && why.contains("6.1.0-9-amd64")),
            "{gaps:?}"
        );
        assert!(
            gaps.iter().any(|why| why.contains("names no disk")),
            "{gaps:?}"
        );
    }
    // Cut off, it says nothing of its kernel, and is a state all the same.
    world.write("lone", &bytes[..bytes.len() / 2]);
    let inspection = world
        .only()
        .open_point("active")
        .unwrap()
        .inspect(&std::collections::BTreeSet::new())
        .unwrap();
    assert_eq!(inspection.power.as_str(), "suspended");
    assert_eq!(inspection.memory.unwrap().kernel, None);
    assert!(
        inspection
            .gaps
            .iter()
            .any(|gap| gap.kind == ErrorKind::Corrupt && gap.why.contains("cut off"))
    );
}

#[test]
fn a_state_called_as_an_image_is_its_machine_s() {
    let world = World::new();
    world.system("web.qcow2", "qcow2");
    world.write("web.vmstate", stream(&[]));
    let (power, packages, _) = seen(&world.only(), "active");
    assert_eq!((power.as_str(), packages), ("suspended", 1));
    let (power, ..) = seen(&world.alone("web.qcow2").unwrap(), "active");
    assert_eq!(power, "suspended");
}

#[test]
fn cloud_hypervisor_s_snapshots_are_machines() {
    let world = World::new();
    world.system("disks/root.raw", "raw");
    let config = r#"{"cpus":{"boot_vcpus":1,"max_vcpus":1},"memory":{"size":262144},"disks":[{"path":"../disks/root.raw"}]}"#;
    world.write("snapshot/config.json", config);
    assert_eq!(seen(&world.only(), "active").0, "cold");
    world.write("snapshot/state.json", "{\"snapshots\":{}}");
    let text = banner("6.1.0-9-amd64", BUILD);
    let mut memory = vec![0; 262_144];
    for at in [5000, 90_000] {
        memory[at..at + text.len() + 1].copy_from_slice(format!("{text}\n").as_bytes());
    }
    world.write("snapshot/memory-ranges", memory);
    let machine = world.only();
    let inspection = machine
        .open_point("active")
        .unwrap()
        .inspect(&std::collections::BTreeSet::new())
        .unwrap();
    assert_eq!(inspection.power.as_str(), "suspended");
    assert!(!inspection.evidence[0].verified);
    assert_eq!(
        inspection.memory.unwrap().kernel.unwrap().release,
        "6.1.0-9-amd64"
    );
}

/// A swap file in which a system sleeps, found by its name and by where the kernel is to resume from.
#[test]
fn a_system_that_sleeps_in_a_swap_file_is_hibernated() {
    let swap = |magic: &str| {
        let mut bytes = vec![0; 65_536];
        bytes[4086..4096].copy_from_slice(magic.as_bytes());
        String::from_utf8(bytes).unwrap()
    };
    let world = World::new();
    let fstab = "/srv/sleep none swap sw 0 0\n";
    for (name, files) in [
        ("named.raw", vec![("etc/fstab", fstab)]),
        ("awake.raw", vec![("etc/fstab", fstab)]),
    ] {
        let magic = if name == "awake.raw" {
            "SWAPSPACE2"
        } else {
            "S1SUSPEND\0"
        };
        let file = swap(magic);
        let mut all = vec![OS, ("var/lib/dpkg/status", STATUS), ("srv/sleep", &file)];
        all.extend(files);
        world.disk(name, "raw", &all);
    }
    let power = |name: &str| {
        let point = world.alone(name).unwrap().open_point("active").unwrap();
        let signs = point.evidence.clone();
        (point.power.clone(), signs)
    };
    assert_eq!(power("awake.raw").0, Power::Cold);
    let (state, signs) = power("named.raw");
    assert_eq!(
        state,
        Power::Hibernated {
            volume: "disk0:/srv/sleep".to_owned()
        }
    );
    assert!(state.forbids_editing().is_some());
    assert_eq!(signs[0].shows, PowerSign::Hibernated);
    assert_eq!(
        (signs[0].offset, signs[0].magic.as_deref()),
        (Some(4086), Some("S1SUSPEND"))
    );

    // A file that no list names, where debugfs says that it begins.
    let root = tempfile::tempdir().unwrap();
    let line = "linux /vmlinuz resume=/dev/vda resume_offset=0000000000 ro\n";
    for (path, text) in [
        OS,
        ("var/lib/dpkg/status", STATUS),
        ("hidden/file", &swap("S1SUSPEND\0")),
        ("boot/grub/grub.cfg", line),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let disk = world.path("offset.raw");
    let (from, to) = (root.path().to_str().unwrap(), disk.to_str().unwrap());
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", "-b", "4096", "-d", from, to, "8M"],
    );
    let out = std::process::Command::new("debugfs")
        .args(["-R", "bmap /hidden/file 0", to])
        .output()
        .expect("the oracle debugfs is required");
    let block: u64 = String::from_utf8_lossy(&out.stdout).trim().parse().unwrap();
    assert_eq!(power("offset.raw").0, Power::Cold);
    let mut bytes = fs::read(&disk).unwrap();
    let place = bytes
        .windows(10)
        .position(|ten| ten == b"0000000000")
        .unwrap();
    bytes[place..place + 10].copy_from_slice(format!("{block:010}").as_bytes());
    fs::write(&disk, bytes).unwrap();
    let (state, signs) = power("offset.raw");
    assert_eq!(state.as_str(), "hibernated", "{signs:?}");
    assert_eq!(signs[0].offset, Some(block * 4096 + 4086));
}
