//! Machines of several disks, their descriptions, their restore points, and what was saved of them.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod fixes;
mod memory;
mod stages;
mod world;

use std::fs;

use dormouse_block::ErrorKind;
use dormouse_disk::PointKind;
use dormouse_engine::PowerSign;
use world::{OS, STATUS, World, domain, fixtures, ids, run, saved, seen, whole};

/// A root on one disk and the package database on another, called by the kernel's name as fstab has it.
fn two_disks() -> World {
    let world = World::new();
    let fstab = ("etc/fstab", "/dev/vdb /var ext4 defaults 0 2\n");
    world.disk("root.qcow2", "qcow2", &[OS, fstab, ("var/empty", "")]);
    world.disk("data.qcow2", "qcow2", &[("lib/dpkg/status", STATUS)]);
    world
}

fn described() -> World {
    let world = two_disks();
    let text = domain(&[
        ("vdb", "/var/lib/libvirt/images/data.qcow2", "qcow2"),
        ("vda", "/var/lib/libvirt/images/root.qcow2", "qcow2"),
    ]);
    world.write("web.xml", text);
    world
}

#[test]
fn a_described_machine_has_all_its_disks_and_its_disks_are_no_machines() {
    let world = described();
    let machine = world.only();
    assert_eq!(machine.name, "web");
    assert_eq!(seen(&machine, "active"), whole("cold"));
    let fact = machine.fact(Some(&world.library));
    assert_eq!(fact.virtual_size, 16 << 20);
    let disks: Vec<_> = fact
        .disks
        .iter()
        .map(|disk| (disk.devices.join(","), disk.path.clone().unwrap()))
        .collect();
    assert_eq!(
        disks,
        [
            ("vda".to_owned(), "root.qcow2".to_owned()),
            ("vdb".to_owned(), "data.qcow2".to_owned())
        ]
    );
    let files: Vec<_> = fact
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.role.as_str()))
        .collect();
    assert_eq!(
        files,
        [
            ("web.xml", "description"),
            ("root.qcow2", "image"),
            ("data.qcow2", "image")
        ]
    );
    // By itself, too.
    assert_eq!(
        seen(&world.alone("web.xml").unwrap(), "active"),
        whole("cold")
    );
}

#[test]
fn undescribed_disks_are_machines_of_their_own_and_say_what_they_lack() {
    let world = two_disks();
    assert_eq!(world.names(), ["data", "root"]);
    let root = world.alone("root.qcow2").unwrap();
    assert!(root.fact(None).disks.is_empty());
    let (_, packages, gaps) = seen(&root, "active");
    assert_eq!(packages, 0);
    assert!(gaps.iter().any(|gap| gap.contains("/dev/vdb")), "{gaps:?}");
}

#[test]
fn a_snapshot_of_the_machine_is_in_all_its_disks() {
    let world = described();
    for disk in ["root.qcow2", "data.qcow2"] {
        world.snapshot(disk, "clean");
    }
    world.snapshot("root.qcow2", "half");
    let machine = world.only();
    let names: Vec<_> = machine
        .points()
        .into_iter()
        .map(|point| point.name)
        .collect();
    assert_eq!(names, ["active", "clean", "half"]);
    let id = |name: &str| machine.find_point(name).unwrap().id;
    assert_eq!(seen(&machine, &id("clean")), whole("cold"));
    let (_, packages, gaps) = seen(&machine, &id("half"));
    assert_eq!(packages, 0);
    assert!(
        gaps.iter()
            .any(|gap| gap.contains("no snapshot called \"half\"")),
        "{gaps:?}"
    );
    // Evidence of such a point could not cover all its disks, and says so.
    assert_eq!(machine.disks(&id("clean")).unwrap().len(), 2);
    assert!(machine.disks(&id("half")).is_err());
}

#[test]
fn a_disk_that_cannot_be_opened_is_a_gap_of_its_machine() {
    let world = described();
    let outside = world.library.parent().unwrap().join("outside.raw");
    fs::write(&outside, [0; 4096]).unwrap();
    std::os::unix::fs::symlink(&outside, world.path("link.raw")).unwrap();
    for (file, word) in [
        (outside.to_str().unwrap(), "outside the allowed folders"),
        ("../outside.raw", "outside the allowed folders"),
        ("link.raw", "outside the allowed folders"),
        ("/etc/shadow", "outside the allowed folders"),
        ("missing.raw", "cannot be found"),
    ] {
        let text = domain(&[
            ("vda", "root.qcow2", "qcow2"),
            ("vdb", "data.qcow2", "qcow2"),
            ("vdc", file, "raw"),
        ]);
        world.write("web.xml", text);
        let machine = world.only();
        let (power, packages, gaps) = seen(&machine, "active");
        assert_eq!((power.as_str(), packages), ("cold", 1));
        assert!(
            gaps.iter()
                .all(|gap| gap.contains("disk2") && gap.contains(word)),
            "{gaps:?}"
        );
        assert_eq!(gaps.len(), 1, "{file}");
    }
    // None of its disks: it cannot be opened at all.
    world.write("web.xml", domain(&[("vda", "../outside.raw", "raw")]));
    assert_eq!(
        world.alone("web.xml").err().unwrap().kind(),
        ErrorKind::Denied
    );
    world.write("web.xml", "<domain><name>x</name></domain>");
    assert_eq!(
        world.alone("web.xml").err().unwrap().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn descriptions_that_name_each_other_lead_nowhere() {
    let world = World::new();
    world.write("a.xml", domain(&[("vda", "b.xml", "raw")]));
    world.write(
        "b.xml",
        domain(&[("vda", "a.xml", "raw"), ("vdb", "b.xml", "raw")]),
    );
    assert_eq!(world.names(), ["a", "b"]);
    for found in world.discover().machines {
        let (_, packages, gaps) = seen(&world.open(&found), "active");
        assert_eq!(packages, 0);
        assert!(!gaps.is_empty());
    }
}

#[test]
fn loose_layers_are_points_of_the_machine_on_top() {
    let world = World::new();
    world.system("base.qcow2", "qcow2");
    world.snapshot("base.qcow2", "installed");
    world.layer("middle.qcow2", "base.qcow2", "qcow2");
    world.layer("web.qcow2", "middle.qcow2", "qcow2");
    let machine = world.only();
    assert_eq!(machine.name, "web");
    assert_eq!(ids(&machine), ["active", "layer-1", "layer-1.1", "layer-2"]);
    let points = machine.points();
    assert_eq!(
        (points[1].kind, points[1].name.as_str()),
        (PointKind::Layer, "base.qcow2")
    );
    assert_eq!(points[2].name, "installed");
    for point in ids(&machine) {
        assert_eq!(seen(&machine, &point), whole("cold"), "{point}");
    }
    // By itself, an image knows of nobody beside it.
    assert_eq!(ids(&world.alone("web.qcow2").unwrap()), ["active"]);
    // A base of two machines belongs to neither.
    world.layer("mail.qcow2", "base.qcow2", "qcow2");
    assert_eq!(world.names(), ["base", "mail", "web"]);
    let machines = world.discover().machines;
    assert_eq!(ids(&world.open(&machines[2])), ["active", "layer-1"]);
    assert_eq!(machines[2].layers, [world.path("middle.qcow2")]);
}

#[test]
fn vmware_snapshots_are_the_disks_that_they_name() {
    let world = World::new();
    world.system("vm/web.vmdk", "vmdk");
    world.layer("vm/web-000001.vmdk", "web.vmdk", "vmdk");
    world.write(
        "vm/web.vmx",
        "config.version = \"8\"\nvirtualHW.version = \"21\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"web-000001.vmdk\"\n",
    );
    world.write(
        "vm/web.vmsd",
        "snapshot.numSnapshots = \"2\"\nsnapshot0.uid = \"1\"\nsnapshot0.displayName = \"Off\"\nsnapshot0.filename = \"web-Snapshot1.vmsn\"\nsnapshot0.numDisks = \"1\"\nsnapshot0.disk0.fileName = \"web.vmdk\"\nsnapshot0.disk0.node = \"scsi0:0\"\nsnapshot1.uid = \"2\"\nsnapshot1.parent = \"1\"\nsnapshot1.displayName = \"On\"\nsnapshot1.filename = \"web-Snapshot2.vmsn\"\nsnapshot1.numDisks = \"1\"\nsnapshot1.disk0.fileName = \"web.vmdk\"\nsnapshot1.disk0.node = \"scsi0:0\"\n",
    );
    world.write("vm/web-Snapshot2.vmem", vec![7; 5000]);
    let machine = world.only();
    assert_eq!(
        (machine.name.as_str(), ids(&machine)),
        ("vm/web", vec!["active".into(), "1".into(), "2".into()])
    );
    assert_eq!(seen(&machine, "active"), whole("cold"));
    assert_eq!(seen(&machine, "1"), whole("cold"));
    assert_eq!(seen(&machine, "2"), whole("suspended"));
    assert_eq!(machine.find_point("On").unwrap().memory, Some(5000));
    assert_eq!(machine.memory("2").unwrap().unwrap().len(), 5000);
    assert!(machine.memory("1").unwrap().is_none());
    // Suspended as it is.
    world.write("vm/web.vmss", [0; 64]);
    assert_eq!(seen(&world.only(), "active"), whole("suspended"));
    assert!(
        machine
            .files()
            .iter()
            .any(|file| file.path.ends_with("web.vmsd"))
    );
}

#[test]
fn virtualbox_saved_states_suspend_their_points() {
    let world = World::new();
    world.system("web.vdi", "vdi");
    world.system("Snapshots/{2}.vdi", "vdi");
    let disk = |uuid: &str| {
        format!(
            "<StorageControllers><StorageController type=\"AHCI\"><AttachedDevice type=\"HardDisk\" port=\"0\" device=\"0\"><Image uuid=\"{uuid}\"/></AttachedDevice></StorageController></StorageControllers>"
        )
    };
    let text = |state: &str| {
        format!(
            "<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.19-linux\"><Machine uuid=\"{{0}}\" name=\"web\" {state}><MediaRegistry><HardDisks><HardDisk uuid=\"{{1}}\" location=\"web.vdi\" format=\"VDI\"><HardDisk uuid=\"{{2}}\" location=\"Snapshots/{{2}}.vdi\" format=\"VDI\"/></HardDisk></HardDisks></MediaRegistry><Snapshot uuid=\"{{3}}\" name=\"first\" stateFile=\"Snapshots/first.sav\">{}</Snapshot>{}</Machine></VirtualBox>",
            disk("{1}"),
            disk("{2}")
        )
    };
    world.write("web.vbox", text(""));
    let machine = world.only();
    assert_eq!(ids(&machine), ["active", "3"]);
    assert_eq!(seen(&machine, "active"), whole("cold"));
    // The file is not there, and was written all the same.
    assert_eq!(seen(&machine, "3"), whole("suspended"));
    world.write("Snapshots/now.sav", [0; 99]);
    world.write("web.vbox", text("stateFile=\"Snapshots/now.sav\""));
    let machine = world.only();
    assert_eq!(seen(&machine, "active"), whole("suspended"));
    assert_eq!(machine.points()[0].memory, Some(99));
}

#[test]
fn a_state_saved_by_libvirt_suspends_whatever_has_its_disks() {
    let text = domain(&[("vda", "/elsewhere/web.qcow2", "qcow2")]);
    let world = World::new();
    world.system("web.qcow2", "qcow2");
    assert_eq!(seen(&world.only(), "active"), whole("cold"));
    world.write("any.save", saved(&text));
    for machine in [world.only(), world.alone("web.qcow2").unwrap()] {
        assert_eq!(seen(&machine, "active"), whole("suspended"));
        assert!(machine.memory("active").unwrap().is_some());
    }
    // Described as well.
    world.write("web.xml", &text);
    let machine = world.only();
    assert_eq!(machine.fact(None).description.unwrap().kind, "libvirt");
    assert_eq!(seen(&machine, "active"), whole("suspended"));
    // By the name that virsh managedsave gives it.
    fs::remove_file(world.path("any.save")).unwrap();
    assert_eq!(seen(&world.only(), "active"), whole("cold"));
    world.write("save/web.save", saved(&text));
    assert_eq!(
        seen(&world.alone("web.xml").unwrap(), "active"),
        whole("suspended")
    );
    // All there is of a machine whose disk is called as it was.
    fs::remove_file(world.path("web.xml")).unwrap();
    fs::rename(world.path("save/web.save"), world.path("web.save")).unwrap();
    let machine = world.alone("web.save").unwrap();
    assert_eq!(seen(&machine, "active"), whole("suspended"));
}

/// The real thing: a guest that libvirt saved, and its disk.
#[test]
fn a_real_saved_guest_is_suspended() {
    let world = World::new();
    let folder = fixtures().join("saved-state/libvirt");
    for (from, to) in [
        ("save-raw.img.zst", "alpine319.save"),
        ("disk-at-save-raw.qcow2.zst", "disk.qcow2"),
    ] {
        let (from, to) = (folder.join(from), world.path(to));
        run(
            "zstd",
            &[
                "-q",
                "-d",
                from.to_str().unwrap(),
                "-o",
                to.to_str().unwrap(),
            ],
        );
    }
    let machine = world.only();
    assert_eq!(machine.name, "disk");
    let point = machine.open_point("active").unwrap();
    let len = fs::metadata(world.path("alpine319.save")).unwrap().len();
    assert_eq!(point.info.memory, Some(len));
    assert!(point.power.forbids_editing().is_some());
    let inspection = point.inspect(&std::collections::BTreeSet::new()).unwrap();
    let signs: Vec<_> = inspection
        .evidence
        .iter()
        .map(|sign| {
            (
                sign.shows,
                sign.place.as_str(),
                sign.magic.as_deref(),
                sign.offset,
            )
        })
        .collect();
    assert_eq!(
        signs,
        [
            (
                PowerSign::Suspended,
                "alpine319.save",
                Some("LibvirtQemudSave"),
                Some(0)
            ),
            // The journal has work that nobody replayed: the guest still runs, in its memory.
            (PowerSign::Crashed, "disk0/gpt1", None, None),
        ]
    );
    // As the guest itself said before it was saved (transcript.txt).
    let said = fs::read_to_string(folder.join("transcript.txt")).unwrap();
    let memory = inspection.memory.unwrap();
    // As its log says in memory; the state was made within the hour.
    assert_eq!(memory.started.unwrap().to_string(), "2026-11-20T12:40:07Z");
    assert_eq!(
        memory.started_why,
        [
            "the record of its log, in one place",
            "its kernel's clock, in 2 places"
        ]
    );
    let kernel = memory.kernel.unwrap();
    let build = kernel.build.unwrap();
    assert!(said.contains(&format!("Linux (none) {} {build} x86_64", kernel.release)));
    assert_eq!(
        kernel.build_id.as_deref(),
        Some("eb4fbcd037e7253717950bf2b93bd5566f47c56f")
    );
    assert_eq!(kernel.why.len(), 3, "{:?}", kernel.why);
    // What memory was not asked for is said.
    assert!(
        inspection
            .gaps
            .iter()
            .any(|gap| gap.why.contains("deleted files") && !gap.may_hide_packages)
    );
    assert!(
        inspection
            .gaps
            .iter()
            .all(|gap| !gap.why.contains("started"))
    );
}

#[test]
fn proxmox_volumes_are_found_below_the_library() {
    let world = World::new();
    world.system("images/100/vm-100-disk-0.qcow2", "qcow2");
    world.snapshot("images/100/vm-100-disk-0.qcow2", "cold");
    world.snapshot("images/100/vm-100-disk-0.qcow2", "awake");
    world.snapshot("images/100/vm-100-disk-0.qcow2", "forgotten");
    let section = "memory: 1024\nostype: l26\nscsi0: local:100/vm-100-disk-0.qcow2,size=8M\n";
    world.write(
        "etc/qemu-server/100.conf",
        format!(
            "{section}name: web\n\n[awake]\n{section}parent: cold\nsnaptime: 200\nvmstate: local:100/vm-100-state-awake.raw\n\n[cold]\n{section}snaptime: 100\n"
        ),
    );
    let machine = world.only();
    assert_eq!(machine.name, "etc/qemu-server/100");
    assert_eq!(ids(&machine), ["active", "3", "cold", "awake"]);
    assert_eq!(seen(&machine, "cold"), whole("cold"));
    assert_eq!(seen(&machine, "awake"), whole("suspended"));
    assert_eq!(
        machine.find_point("forgotten").unwrap().kind,
        PointKind::InternalSnapshot
    );
}

const OVF: &str = r#"<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:id="f1" ovf:href="web.vmdk"/></References>
<DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
<VirtualSystem ovf:id="web"><VirtualHardwareSection><Item><InstanceID>1</InstanceID><ResourceType>17</ResourceType><HostResource>ovf:/disk/d1</HostResource></Item></VirtualHardwareSection></VirtualSystem>
</Envelope>"#;

#[test]
fn an_archive_is_read_in_place_and_held_against_its_manifest() {
    let world = World::new();
    world.system("web.vmdk", "stream");
    world.write("web.ovf", OVF);
    let folder = world.library.to_str().unwrap().to_owned();
    let sums = "cd \"$1\" && for f in web.ovf web.vmdk; do echo \"SHA256($f)= $(sha256sum <$f | cut -d' ' -f1)\"; done >web.mf && tar -cf web.ova web.ovf web.mf web.vmdk";
    run("sh", &["-ec", sums, "sh", &folder]);
    // The folder's own description.
    assert_eq!(
        seen(&world.alone("web.ovf").unwrap(), "active"),
        whole("cold")
    );
    let length = usize::try_from(fs::metadata(world.path("web.vmdk")).unwrap().len()).unwrap();
    for file in ["web.ovf", "web.mf", "web.vmdk"] {
        fs::remove_file(world.path(file)).unwrap();
    }
    let machine = world.only();
    assert_eq!(seen(&machine, "active"), whole("cold"));
    assert_eq!(machine.files().len(), 1);
    assert_eq!(fs::read_dir(&world.library).unwrap().count(), 1);
    // A changed byte that no reader of the disk would miss: the last of the stream, behind the marker of its end.
    let mut bytes = fs::read(world.path("web.ova")).unwrap();
    let begin = bytes.windows(4).position(|word| word == b"KDMV").unwrap();
    bytes[begin + length - 1] ^= 1;
    fs::write(world.path("web.ova"), bytes).unwrap();
    let machine = world.only();
    let inspection = machine
        .open_point("active")
        .unwrap()
        .inspect(&std::collections::BTreeSet::new())
        .unwrap();
    assert!(!inspection.complete(), "{:?}", inspection.gaps);
    assert!(
        inspection
            .gaps
            .iter()
            .any(|gap| gap.why.contains("manifest"))
    );
}

#[test]
fn a_hyper_v_configuration_is_named() {
    let world = World::new();
    let from = fixtures().join("saved-state/hyperv/test.vmcx");
    fs::copy(from, world.path("test.vmcx")).unwrap();
    let library = world.discover();
    assert!(library.machines.is_empty());
    assert_eq!(library.gaps[0].kind, ErrorKind::Unsupported);
    assert!(library.gaps[0].why.contains("Hyper-V"));
}

#[test]
fn a_guest_cannot_make_its_disk_a_description() {
    let world = World::new();
    world.system("web.raw", "raw");
    let mut bytes = fs::read(world.path("web.raw")).unwrap();
    // The boot block of ext4 is the guest's to write.
    let text = domain(&[("vda", "harmless.raw", "raw")]);
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    fs::write(world.path("web.raw"), bytes).unwrap();
    for machine in [world.only(), world.alone("web.raw").unwrap()] {
        assert!(machine.fact(None).description.is_none());
        assert_eq!(seen(&machine, "active"), whole("cold"));
    }
}

#[test]
fn a_patched_disk_is_looked_at_among_the_others() {
    let world = described();
    let machine = world.only();
    assert_eq!(machine.root_disk("active").unwrap(), "disk0");
    world.layer("patched.qcow2", "root.qcow2", "qcow2");
    let options = world.options();
    let again = machine
        .with_disk("active", "disk0", &world.path("patched.qcow2"), &options)
        .unwrap();
    assert_eq!(seen(&again, "active"), whole("cold"));
    let disks = again.disks("active").unwrap();
    assert_eq!(disks.len(), 2);
    assert_eq!(again.files()[0].path, world.path("patched.qcow2"));
}

#[test]
fn a_parallels_folder_is_one_machine_with_its_snapshots() {
    const TOP: &str = "5fbaabe3-6958-40ff-92a7-860e329aab41";
    const BASE: &str = "aaaaaaaa-0000-0000-0000-000000000001";
    let world = World::new();
    world.system("vms/web.hdd/base.hds", "parallels");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "parallels",
            world.path("vms/web.hdd/top.hds").to_str().unwrap(),
            "8M",
        ],
    );
    let image = |id: &str, name: &str| {
        format!("<Image><GUID>{{{id}}}</GUID><Type>Compressed</Type><File>{name}</File></Image>")
    };
    let shot = |id: &str, parent: &str| {
        format!("<Shot><GUID>{{{id}}}</GUID><ParentGUID>{{{parent}}}</ParentGUID></Shot>")
    };
    world.write(
        "vms/web.hdd/DiskDescriptor.xml",
        format!(
            "<Parallels_disk_image Version=\"1.0\"><Disk_Parameters><Disk_size>16384</Disk_size>\
             <Padding>0</Padding></Disk_Parameters><StorageData><Storage><Start>0</Start><End>16384</End>\
             <Blocksize>2048</Blocksize>{}{}</Storage></StorageData><Snapshots>{}{}</Snapshots>\
             </Parallels_disk_image>",
            image(BASE, "base.hds"),
            image(TOP, "top.hds"),
            shot(BASE, "00000000-0000-0000-0000-000000000000"),
            shot(TOP, BASE),
        ),
    );
    assert_eq!(world.names(), ["vms/web"]);
    let machine = world.only();
    assert_eq!(ids(&machine), ["active", BASE]);
    for point in ["active", BASE] {
        assert_eq!(seen(&machine, point), whole("cold"));
    }
    // By itself too: the folder that a user names.
    let machine = world.alone("vms/web.hdd/DiskDescriptor.xml").unwrap();
    assert_eq!(seen(&machine, "active"), whole("cold"));
}

#[test]
fn an_encrypted_image_is_listed_without_a_key_and_read_with_one() {
    let world = World::new();
    world.system("plain.qcow2", "qcow2");
    let secret = world.path("../key").to_str().unwrap().to_owned();
    fs::write(&secret, "open sesame").unwrap();
    let object = format!("secret,id=key,file={secret}");
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let (plain, locked) = (world.path("plain.qcow2"), world.path("web.qcow2"));
    run(
        "qemu-img",
        &[
            "convert",
            "--object",
            &object,
            "-O",
            "qcow2",
            "-o",
            options,
            plain.to_str().unwrap(),
            locked.to_str().unwrap(),
        ],
    );
    fs::remove_file(plain).unwrap();
    world.layer("top.qcow2", "web.qcow2", "qcow2");
    assert_eq!(world.names(), ["top"]);
    let found = world.discover().machines.remove(0);
    let machine = world.open(&found);
    assert_eq!(ids(&machine), ["active", "layer-1"]);
    let fact = machine.fact(Some(&world.library));
    let encryption: Vec<_> = fact
        .files
        .iter()
        .map(|file| file.encryption.as_deref())
        .collect();
    assert_eq!(encryption, [None, Some("LUKS")]);
    for point in ["active", "layer-1"] {
        let error = machine.open_point(point).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let said = error.with_causes();
        assert!(
            said.contains("web.qcow2 cannot be opened: it is encrypted with LUKS1"),
            "{said}"
        );
    }
    let keys = dormouse_engine::Keys::new([b"open sesame\n".to_vec()]).unwrap();
    let options = dormouse_engine::MachineOptions {
        keys,
        ..world.options()
    };
    let machine = dormouse_engine::OpenMachine::open_found(&found, &options).unwrap();
    for point in ["active", "layer-1"] {
        assert_eq!(seen(&machine, point), whole("cold"));
    }
}

#[test]
fn a_layer_that_is_no_file_of_the_chain_is_never_probed() {
    let world = World::new();
    world.system("base.qcow2", "qcow2");
    world.layer("web.qcow2", "base.qcow2", "qcow2");
    let mut found = world.discover().machines.remove(0);
    assert_eq!(found.layers.len(), 1);
    // A raw layer whose guest wrote another format's header: only what records its format says what it is.
    world.write("other.qcow2", fs::read(world.path("base.qcow2")).unwrap());
    let raw = world.path("raw-layer");
    fs::copy(world.path("other.qcow2"), &raw).unwrap();
    found.layers = vec![raw];
    let machine = world.open(&found);
    let error = machine.open_point("layer-1").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let said = error.with_causes();
    assert!(said.contains("its format is not known"), "{said}");
    assert_eq!(seen(&machine, "active"), whole("cold"));
    // By another path it is the same file.
    found.layers = vec![world.path("../library/base.qcow2")];
    assert_eq!(seen(&world.open(&found), "layer-1"), whole("cold"));
    // A layer that its referrer calls raw is raw, whatever its guest wrote.
    let raw = World::new();
    raw.system("base.bin", "qcow2");
    let top = raw.path("web.qcow2");
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            "base.bin",
            "-F",
            "raw",
            top.to_str().unwrap(),
        ],
    );
    let machine = raw.open(&raw.discover().machines.remove(0));
    let formats: Vec<_> = machine
        .files()
        .iter()
        .map(|file| file.format.clone())
        .collect();
    assert_eq!(formats, ["qcow2", "raw"]);
    assert_eq!(seen(&machine, "layer-1").1, 0);
}
