//! Descriptions of machines: what each product writes, what of it is believed, and what is refused.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../oracle/mod.rs"]
mod oracle;

mod archives;
mod hostile;
mod samples;

use std::fs;
use std::path::Path;

use dormouse_block::ErrorKind;
use dormouse_disk::{
    DescribedDisk, DescriptionKind, DiskPlace, FormatName, LibraryGate, MachineDescription, Role,
    describe, description_kind, locate,
};

pub(crate) fn read(path: &Path) -> dormouse_block::Result<MachineDescription> {
    let gate = LibraryGate::new([path.parent().unwrap()]).unwrap();
    describe(path, &gate).map(|machine| machine.expect("a description"))
}

pub(crate) fn written(folder: &Path, name: &str, text: &str) -> MachineDescription {
    fs::write(folder.join(name), text).unwrap();
    read(&folder.join(name)).unwrap()
}

fn slots(disks: &[DescribedDisk]) -> Vec<(&str, Vec<&str>, &str)> {
    disks
        .iter()
        .map(|disk| {
            let devices = disk.devices.iter().map(String::as_str).collect();
            let file = match &disk.place {
                DiskPlace::File(names) => names[0].as_str(),
                DiskPlace::Member { name, .. } => name,
                DiskPlace::Elsewhere(_) => "elsewhere",
            };
            (disk.slot.as_str(), devices, file)
        })
        .collect()
}

#[test]
fn libvirt_disks_stand_in_the_order_of_their_targets() {
    let dir = tempfile::tempdir().unwrap();
    let machine = written(dir.path(), "web.xml", samples::LIBVIRT);
    assert_eq!(
        (machine.kind.as_str(), machine.name.as_str()),
        ("libvirt", "web-01")
    );
    assert_eq!(machine.firmware.as_deref(), Some("efi"));
    assert_eq!(machine.memory, Some(2 << 30));
    assert_eq!(
        slots(&machine.disks),
        [
            (
                "virtio0:0",
                vec!["vda"],
                "/var/lib/libvirt/images/root.qcow2"
            ),
            ("virtio0:1", vec!["vdb"], "/var/lib/libvirt/images/data.raw"),
            ("virtio0:2", vec!["vdc"], "elsewhere"),
        ]
    );
    assert_eq!(machine.disks[1].format, Some(FormatName::RAW));
    assert!(machine.saved_states.is_empty());
    // What virsh managedsave leaves, and something else of that name.
    fs::write(dir.path().join("web-01.save"), b"no such thing").unwrap();
    assert!(
        read(&dir.path().join("web.xml"))
            .unwrap()
            .saved_states
            .is_empty()
    );
    fs::write(dir.path().join("web-01.save"), b"LibvirtQemudSave").unwrap();
    assert_eq!(
        read(&dir.path().join("web.xml"))
            .unwrap()
            .saved_states
            .len(),
        1
    );
}

#[test]
fn libvirt_saved_state_names_the_disk_it_depends_on() {
    let dir = tempfile::tempdir().unwrap();
    let packed = oracle::fixtures().join("saved-state/libvirt/save-raw.img.zst");
    let path = dir.path().join("save.img");
    let out = path.to_str().unwrap();
    oracle::run("zstd", &["-q", "-d", packed.to_str().unwrap(), "-o", out]);
    let machine = read(&path).unwrap();
    assert_eq!(
        (machine.kind.as_str(), machine.name.as_str()),
        ("libvirt-save", "alpine319")
    );
    assert_eq!(
        slots(&machine.disks),
        [("virtio0:0", vec!["vda"], "/tmp/lvses/img/disk.qcow2")]
    );
    assert_eq!(machine.saved_states[0].names, ["save.img"]);
    // A header of a host of the other byte order.
    let mut bytes = fs::read(&path).unwrap();
    for number in bytes[16..36].chunks_exact_mut(4) {
        number.reverse();
    }
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap().name, "alpine319");
    bytes[16..20].copy_from_slice(&[9, 9, 9, 9]);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn vmware_snapshots_come_from_the_list_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("web.vmsd"), samples::VMSD).unwrap();
    let machine = written(dir.path(), "web.vmx", samples::VMX);
    assert_eq!(machine.name, "Web \"One\"");
    assert_eq!(machine.firmware.as_deref(), Some("efi"));
    assert_eq!(machine.memory, Some(4 << 30));
    assert_eq!(
        slots(&machine.disks),
        [
            ("scsi0:0", vec!["sda"], "root-000001.vmdk"),
            ("scsi0:1", vec!["sdb"], "data.vmdk")
        ]
    );
    assert!(machine.saved_states.is_empty());
    let [installed, running] = &machine.snapshots[..] else {
        panic!("{:?}", machine.snapshots);
    };
    assert_eq!(
        (installed.id.as_str(), installed.name.as_str()),
        ("1", "Installed")
    );
    assert_eq!(slots(&installed.disks)[0].2, "root.vmdk");
    // 379215 * 2^32 + 2792550528 microseconds.
    assert_eq!(installed.created.unwrap().seconds, 1_628_718_815);
    assert!(installed.saved_states.is_empty());
    assert_eq!(running.parent.as_deref(), Some("1"));
    assert_eq!(running.saved_states.len(), 1);
    assert_eq!(
        slots(&running.disks),
        [("scsi0:0", vec!["sda"], "root.vmdk")]
    );
    // Memory beside a snapshot that the list does not call running.
    fs::write(dir.path().join("web-Snapshot1.vmem"), b"memory").unwrap();
    let machine = read(&dir.path().join("web.vmx")).unwrap();
    assert_eq!(
        machine.snapshots[0].saved_states[0].names,
        ["web-Snapshot1.vmem"]
    );
}

#[test]
fn vmware_suspended_machines_are_told_by_name_and_by_neighbour() {
    let dir = tempfile::tempdir().unwrap();
    let named = format!("{}checkpoint.vmState = \"web-6ff2.vmss\"\n", samples::VMX);
    let machine = written(dir.path(), "web.vmx", &named);
    assert_eq!(machine.saved_states[0].names, ["web-6ff2.vmss"]);
    let empty = format!("{}checkpoint.vmState = \"\"\n", samples::VMX);
    assert!(
        written(dir.path(), "web.vmx", &empty)
            .saved_states
            .is_empty()
    );
    fs::write(dir.path().join("web.vmss"), b"state").unwrap();
    assert_eq!(written(dir.path(), "web.vmx", &empty).saved_states.len(), 1);
    let locked = format!("{}encryption.keySafe = \"vmware:key/list\"\n", samples::VMX);
    fs::write(dir.path().join("web.vmx"), locked).unwrap();
    let error = read(&dir.path().join("web.vmx")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn virtualbox_media_are_found_by_uuid() {
    let dir = tempfile::tempdir().unwrap();
    let machine = written(dir.path(), "web.vbox", samples::VBOX);
    assert_eq!(
        (machine.name.as_str(), machine.memory),
        ("web", Some(1 << 30))
    );
    assert_eq!(machine.firmware.as_deref(), Some("efi"));
    assert_eq!(
        slots(&machine.disks),
        [
            (
                "sata0:0",
                vec!["sda"],
                "Snapshots/{de551924-a484-4f88-9897-c3c4986b8f75}.vdi"
            ),
            ("sata0:1", vec!["sdb"], "elsewhere")
        ]
    );
    assert_eq!(machine.saved_states[0].names, ["Snapshots/2026.sav"]);
    let first = &machine.snapshots[0];
    assert_eq!(first.name, "first");
    assert_eq!(first.created.unwrap().seconds, 1_400_154_586);
    assert_eq!(slots(&first.disks), [("sata0:0", vec!["sda"], "web.vdi")]);
    assert_eq!(first.saved_states[0].names, ["Snapshots/first.sav"]);
}

/// Machines that libvirt's own tests keep, made by VirtualBox.
#[test]
fn virtualbox_snapshot_trees_of_libvirt_are_read() {
    let folder = oracle::fixtures().join("saved-state/virtualbox-descriptors");
    for (file, count) in [
        ("2disks-2snap.vbox", 2),
        ("2disks-3snap.vbox", 3),
        ("2disks-3snap-brother.vbox", 4),
    ] {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("<Snapshot ").count(), count, "{file}");
        let machine = read(&path).unwrap();
        assert_eq!(machine.snapshots.len(), count, "{file}");
        assert_eq!(machine.disks.len(), 2, "{file}: {:?}", machine.disks);
        assert!(machine.snapshots[0].parent.is_none());
        for (position, snapshot) in machine.snapshots.iter().enumerate() {
            assert_eq!(snapshot.disks.len(), 2, "{file}: {}", snapshot.name);
            assert!(
                snapshot
                    .disks
                    .iter()
                    .all(|disk| matches!(disk.place, DiskPlace::File(_)))
            );
            let before = &machine.snapshots[..position];
            let known = |parent: &String| before.iter().any(|other| other.id == *parent);
            assert!(
                snapshot.parent.iter().all(known),
                "{file}: parents come first"
            );
        }
    }
}

#[test]
fn ovf_disks_follow_their_controllers() {
    let dir = tempfile::tempdir().unwrap();
    let machine = written(dir.path(), "web.ovf", samples::OVF);
    assert_eq!(
        (machine.kind.as_str(), machine.name.as_str()),
        ("ovf", "Web")
    );
    assert_eq!(machine.memory, Some(512 << 20));
    assert_eq!(machine.firmware.as_deref(), Some("efi"));
    assert_eq!(
        slots(&machine.disks),
        [
            ("scsi0:0", vec!["sda"], "web-disk1.vmdk"),
            ("scsi0:1", vec!["sdb"], "web-disk2.vmdk")
        ]
    );
    assert!(machine.notes.iter().any(|note| note.contains("vmdisk3")));
    assert!(
        machine
            .notes
            .iter()
            .any(|note| note.contains("no manifest"))
    );
    for (from, to, what) in [
        (
            "<File ovf:href=\"web-disk1",
            "<File ovf:compression=\"gzip\" ovf:href=\"web-disk1",
            "gzip",
        ),
        (
            "<File ovf:href=\"web-disk1",
            "<File ovf:chunkSize=\"9\" ovf:href=\"web-disk1",
            "chunks",
        ),
        (
            "href=\"web-disk1",
            "href=\"https://example.org/web-disk1",
            "network",
        ),
        ("fileRef=\"file1\"", "fileRef=\"file9\"", "file9"),
    ] {
        let machine = written(dir.path(), "web.ovf", &samples::OVF.replace(from, to));
        let DiskPlace::Elsewhere(why) = &machine.disks[0].place else {
            panic!("{what}: {:?}", machine.disks[0]);
        };
        assert!(why.contains(what), "{why}");
    }
}

#[test]
fn proxmox_sections_are_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let machine = written(dir.path(), "100.conf", samples::PROXMOX);
    assert_eq!(
        (machine.kind.as_str(), machine.name.as_str()),
        ("proxmox", "web")
    );
    assert_eq!(machine.memory, Some(2 << 30));
    assert_eq!(
        slots(&machine.disks),
        [
            ("scsi0:0", vec!["sda"], "images/100/vm-100-disk-0.qcow2"),
            ("scsi0:1", vec!["sdb"], "images/100/vm-100-disk-1.raw")
        ]
    );
    let [cold, awake] = &machine.snapshots[..] else {
        panic!("{:?}", machine.snapshots);
    };
    assert_eq!(
        (cold.id.as_str(), cold.created.unwrap().seconds),
        ("cold", 1_790_000_000)
    );
    assert_eq!(cold.disks[0].snapshot.as_deref(), Some("cold"));
    assert!(matches!(cold.disks[1].place, DiskPlace::Elsewhere(_)));
    assert!(cold.saved_states.is_empty());
    assert_eq!(awake.parent.as_deref(), Some("cold"));
    assert_eq!(awake.saved_states.len(), 1);
    assert!(machine.saved_states.is_empty());
    let suspended = samples::PROXMOX.replacen("lock: snapshot", "lock: suspended", 1);
    assert_eq!(
        written(dir.path(), "100.conf", &suspended)
            .saved_states
            .len(),
        1
    );
    let state = samples::PROXMOX.replacen("name: web", "vmstate: local:100/vm-100-state.raw", 1);
    let machine = written(dir.path(), "100.conf", &state);
    assert_eq!(
        (machine.name.as_str(), machine.saved_states.len()),
        ("100", 1)
    );
}

#[test]
fn content_tells_what_a_file_is() {
    let kind = |text: &str| description_kind(text.as_bytes());
    for (text, name) in [
        (samples::LIBVIRT, "libvirt"),
        (samples::VMX, "vmware"),
        (samples::VBOX, "virtualbox"),
        (samples::OVF, "ovf"),
        (samples::PROXMOX, "proxmox"),
    ] {
        assert_eq!(kind(text), Some(DescriptionKind::Read(name)));
    }
    for text in [
        "",
        "<",
        "<network><name>default</name></network>",
        "<!-- <domain> -->",
        "name: value\nscsi0: x\n",
        samples::VMSD,
        "memory: 1\n[section]\nscsi0: local:1/x.raw\nboot: c\n",
    ] {
        assert_eq!(kind(text), None, "{text:?}");
    }
    let hyperv = fs::read(oracle::fixtures().join("saved-state/hyperv/test.vmcx")).unwrap();
    let Some(DescriptionKind::NotRead(name)) = description_kind(&hyperv) else {
        panic!("Hyper-V's configuration is known by name");
    };
    assert!(name.contains("Hyper-V"));
}

#[test]
fn names_lead_nowhere_but_into_the_allowed_folders() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("library");
    fs::create_dir_all(library.join("vm")).unwrap();
    fs::create_dir_all(library.join("images/100")).unwrap();
    fs::write(dir.path().join("outside.raw"), b"x").unwrap();
    fs::write(library.join("vm/beside.raw"), b"x").unwrap();
    fs::write(library.join("images/100/kept.raw"), b"x").unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside.raw"), library.join("vm/link.raw"))
        .unwrap();
    let gate = LibraryGate::new([&library]).unwrap();
    let from = library.join("vm/web.xml");
    let of = |name: &str| locate(&from, &[name.to_owned()], Role::Disk, &gate);
    let inside = |path: &str| library.canonicalize().unwrap().join(path);
    assert_eq!(
        of("/var/lib/libvirt/images/beside.raw").unwrap(),
        inside("vm/beside.raw")
    );
    assert_eq!(
        of(r"C:\machines\beside.raw").unwrap(),
        inside("vm/beside.raw")
    );
    assert_eq!(
        of("images/100/kept.raw").unwrap(),
        inside("images/100/kept.raw")
    );
    let outside = dir.path().join("outside.raw");
    for (name, kind) in [
        ("../../outside.raw", ErrorKind::Denied),
        (outside.to_str().unwrap(), ErrorKind::Denied),
        ("link.raw", ErrorKind::Denied),
        ("/etc/passwd", ErrorKind::Denied),
        ("nbd:localhost:10809", ErrorKind::Denied),
        ("missing.raw", ErrorKind::Corrupt),
        ("a\0b", ErrorKind::Corrupt),
        ("..", ErrorKind::Corrupt),
        ("", ErrorKind::Corrupt),
    ] {
        assert_eq!(of(name).unwrap_err().kind(), kind, "{name:?}");
    }
}
