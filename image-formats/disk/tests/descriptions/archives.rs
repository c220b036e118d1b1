//! OVA: archives made by tar and qemu-img, digests by coreutils.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{ErrorKind, HostFile, Source, window};
use dormouse_disk::{
    ACTIVE, DenyAll, DiskPlace, LibraryGate, MachineDescription, ManifestEntry, Member,
    OpenOptions, describe, open_member,
};

use crate::oracle::{assert_same, run, seed_raw};
use crate::{read, samples};

/// A folder with an exported machine of two disks, and what its disks hold.
fn exported(folder: &Path, sum: &str) -> Vec<PathBuf> {
    fs::write(folder.join("web.ovf"), samples::OVF).unwrap();
    let mut manifest = String::new();
    let mut raws = Vec::new();
    for number in [1, 2] {
        let raw = folder.join(format!("disk{number}.raw"));
        seed_raw(&raw, 4 << 20, number);
        let name = format!("web-disk{number}.vmdk");
        let to = folder.join(&name);
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                "vmdk",
                "-o",
                "subformat=streamOptimized",
                raw.to_str().unwrap(),
                to.to_str().unwrap(),
            ],
        );
        raws.push(raw);
    }
    for name in ["web.ovf", "web-disk1.vmdk", "web-disk2.vmdk"] {
        let path = folder.join(name);
        let said = run(
            &format!("{}sum", sum.to_lowercase()),
            &[path.to_str().unwrap()],
        );
        let digest = said.split(' ').next().unwrap();
        manifest.push_str(&format!("{sum}({name})= {digest}\n"));
    }
    fs::write(folder.join("web.mf"), manifest).unwrap();
    raws
}

/// The archive of these files of `folder`, made by tar in this form.
fn archive(folder: &Path, form: &str, names: &[&str]) -> PathBuf {
    let ova = folder.join(format!("web-{form}.ova"));
    let form = format!("--format={form}");
    let mut args = vec![
        "-C",
        folder.to_str().unwrap(),
        &form,
        "-cf",
        ova.to_str().unwrap(),
    ];
    args.extend(names);
    run("tar", &args);
    ova
}

const ALL: [&str; 4] = ["web.ovf", "web.mf", "web-disk1.vmdk", "web-disk2.vmdk"];

fn bytes_of(ova: &Path, place: &DiskPlace) -> Arc<dyn Source> {
    let file: Arc<dyn Source> = Arc::new(HostFile::open(ova).unwrap());
    match place {
        DiskPlace::Member { offset, size, .. } => Arc::new(window(file, *offset, *size).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn failures(ova: &Path, machine: &MachineDescription) -> Vec<String> {
    let fails = |entry: &&ManifestEntry| entry.check(&*bytes_of(ova, &entry.place)).is_err();
    machine
        .manifest
        .iter()
        .filter(fails)
        .map(|entry| entry.name.clone())
        .collect()
}

#[test]
fn disks_in_an_archive_are_read_in_place() {
    for (form, sum) in [("ustar", "SHA1"), ("gnu", "SHA256"), ("pax", "SHA512")] {
        let dir = tempfile::tempdir().unwrap();
        let raws = exported(dir.path(), sum);
        let ova = archive(dir.path(), form, &ALL);
        let machine = read(&ova).unwrap();
        assert_eq!((machine.kind.as_str(), machine.disks.len()), ("ova", 2));
        assert_eq!(machine.manifest.len(), 3);
        assert_eq!(failures(&ova, &machine), Vec::<String>::new());
        for (disk, raw) in machine.disks.iter().zip(&raws) {
            let DiskPlace::Member { name, offset, size } = &disk.place else {
                panic!("{disk:?}");
            };
            let member = Member {
                name: name.clone(),
                offset: *offset,
                size: *size,
            };
            let options = OpenOptions::new(Arc::new(DenyAll));
            let image = open_member(&ova, &member, &options).unwrap();
            assert_same(&*image.open_point(ACTIVE).unwrap(), raw, form);
            assert_eq!(image.files()[0].path, ova);
        }
    }
}

#[test]
fn a_changed_disk_is_not_that_of_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    exported(dir.path(), "SHA256");
    let ova = archive(dir.path(), "ustar", &ALL);
    let machine = read(&ova).unwrap();
    let DiskPlace::Member { offset, .. } = machine.disks[1].place else {
        panic!("{:?}", machine.disks);
    };
    let mut bytes = fs::read(&ova).unwrap();
    bytes[usize::try_from(offset).unwrap() + 3000] ^= 1;
    fs::write(&ova, bytes).unwrap();
    assert_eq!(failures(&ova, &read(&ova).unwrap()), ["web-disk2.vmdk"]);
}

#[test]
fn certificates_and_missing_members_are_named() {
    let dir = tempfile::tempdir().unwrap();
    exported(dir.path(), "SHA256");
    fs::write(dir.path().join("web.cert"), b"SHA256(web.mf)= 00").unwrap();
    let ova = archive(
        dir.path(),
        "ustar",
        &["web.ovf", "web-disk1.vmdk", "web.cert"],
    );
    let machine = read(&ova).unwrap();
    assert!(machine.notes.iter().any(|note| note.contains("web.cert")));
    assert!(
        machine
            .notes
            .iter()
            .any(|note| note.contains("no manifest"))
    );
    assert!(matches!(&machine.disks[1].place, DiskPlace::Elsewhere(why) if why.contains("disk2")));
    // The manifest speaks of files that are not there.
    let ova = archive(dir.path(), "gnu", &["web.ovf", "web.mf", "web-disk1.vmdk"]);
    assert_eq!(read(&ova).unwrap_err().kind(), ErrorKind::Corrupt);
    // A folder, too, has its manifest and certificate.
    let machine = read(&dir.path().join("web.ovf")).unwrap();
    assert_eq!(machine.manifest.len(), 3);
    assert!(machine.notes.iter().any(|note| note.contains("web.cert")));
}

/// Changes the header of the member `name` and mends its sum.
fn edit(bytes: &mut [u8], name: &str, change: impl Fn(&mut [u8])) {
    let at = (0..bytes.len() / 512)
        .map(|block| block * 512)
        .find(|at| {
            bytes[*at..].starts_with(name.as_bytes()) && &bytes[at + 257..at + 262] == b"ustar"
        })
        .unwrap();
    let header = &mut bytes[at..at + 512];
    change(header);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn an_archive_that_lies_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    exported(dir.path(), "SHA256");
    let sound = fs::read(archive(dir.path(), "ustar", &ALL)).unwrap();
    let lie = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        let ova = dir.path().join("lie.ova");
        fs::write(&ova, bytes).unwrap();
        let gate = LibraryGate::new([dir.path()]).unwrap();
        describe(&ova, &gate)
    };
    let size = |digits: &'static [u8; 12]| {
        move |header: &mut [u8]| header[124..136].copy_from_slice(digits)
    };
    let corrupt = |change: &dyn Fn(&mut Vec<u8>)| {
        assert_eq!(lie(change).unwrap_err().kind(), ErrorKind::Corrupt);
    };
    corrupt(&|bytes| edit(bytes, "web-disk1.vmdk", size(b"77777777777\0")));
    // All ones of a number of base 256.
    corrupt(&|bytes| edit(bytes, "web-disk1.vmdk", size(&[0xff; 12])));
    corrupt(&|bytes| edit(bytes, "web-disk1.vmdk", size(b"not a number")));
    // Two members of one name.
    corrupt(&|bytes| {
        edit(bytes, "web-disk2.vmdk", |header| header[8] = b'1');
    });
    // A sum that does not fit.
    corrupt(&|bytes| {
        let at = bytes.len() / 512;
        let at = (1..at)
            .find(|block| bytes[block * 512..].starts_with(b"web.mf"))
            .unwrap();
        bytes[at * 512 + 150] ^= 1;
    });
    corrupt(&|bytes| bytes.truncate(700));
    assert_eq!(
        lie(&|bytes| edit(bytes, "web-disk1.vmdk", |header| header[156] = b'S'))
            .unwrap_err()
            .kind(),
        ErrorKind::Unsupported
    );
    // A link in the place of a disk is no disk: the manifest's file is not there.
    corrupt(&|bytes| edit(bytes, "web-disk1.vmdk", |header| header[156] = b'2'));
}
