//! Descriptions that mean harm, and descriptions changed at random.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dormouse_block::{Bytes, ErrorKind};
use dormouse_disk::{LibraryGate, describe_source};

use crate::oracle::Random;
use crate::{read, samples};

fn refused(folder: &Path, text: &str) -> ErrorKind {
    let path = folder.join("hostile");
    fs::write(&path, text).unwrap();
    read(&path).unwrap_err().kind()
}

#[test]
fn entities_are_never_expanded() {
    let dir = tempfile::tempdir().unwrap();
    let mut laughs = String::from("<!DOCTYPE domain [<!ENTITY a \"ha\">");
    for (name, before) in [('b', 'a'), ('c', 'b'), ('d', 'c'), ('e', 'd')] {
        laughs.push_str(&format!(
            "<!ENTITY {name} \"{}\">",
            format!("&{before};").repeat(100)
        ));
    }
    laughs.push_str("]><domain><name>&e;</name></domain>");
    // A document type is no declaration that the probe steps over: such a file is nobody's description.
    let path = dir.path().join("laughs.xml");
    fs::write(&path, &laughs).unwrap();
    let gate = LibraryGate::new([dir.path()]).unwrap();
    assert!(dormouse_disk::describe(&path, &gate).unwrap().is_none());
    // Past the probe, inside libvirt's saved state, it is refused by name.
    let external = "<!DOCTYPE domain SYSTEM \"file:///etc/passwd\"><domain><name>x</name></domain>";
    for xml in [laughs.as_str(), external] {
        let mut bytes = b"LibvirtQemudSave".to_vec();
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(u32::try_from(xml.len()).unwrap().to_le_bytes());
        bytes.resize(92, 0);
        bytes.extend(xml.as_bytes());
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert_eq!(
        refused(dir.path(), "<domain><name>&lol;</name></domain>"),
        ErrorKind::Corrupt
    );
}

#[test]
fn depth_and_number_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let deep = format!("<domain>{}", "<a>".repeat(500_000));
    assert_eq!(refused(dir.path(), &deep), ErrorKind::Limit);
    let disk = "<disk><source file='x'/><target dev='vda'/></disk>";
    let many = format!("<domain><devices>{}</devices></domain>", disk.repeat(300));
    assert_eq!(refused(dir.path(), &many), ErrorKind::Limit);
    let media = "<HardDisk uuid=\"{1}\" location=\"x\">".repeat(300);
    let text = format!(
        "<VirtualBox><Machine><MediaRegistry><HardDisks>{media}{}</HardDisks></MediaRegistry></Machine></VirtualBox>",
        "</HardDisk>".repeat(300)
    );
    assert_eq!(refused(dir.path(), &text), ErrorKind::Limit);
    let below = "<Snapshot uuid=\"{1}\"><Snapshots>".repeat(300);
    let text = format!(
        "<VirtualBox><Machine>{below}{}</Machine></VirtualBox>",
        "</Snapshots></Snapshot>".repeat(300)
    );
    assert_eq!(refused(dir.path(), &text), ErrorKind::Limit);
    fs::write(
        dir.path().join("hostile.vmsd"),
        "snapshot.numSnapshots = \"4000000000\"\n",
    )
    .unwrap();
    assert_eq!(refused(dir.path(), samples::VMX), ErrorKind::Limit);
    fs::write(
        dir.path().join("hostile.vmsd"),
        "snapshot.numSnapshots = \"2\"\n",
    )
    .unwrap();
    assert_eq!(refused(dir.path(), samples::VMX), ErrorKind::Corrupt);
    let long = fs::File::create(dir.path().join("long.xml")).unwrap();
    std::io::Write::write_all(&mut &long, b"<domain>").unwrap();
    long.set_len(1 << 40).unwrap();
    let error = read(&dir.path().join("long.xml")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn a_snapshot_list_outside_the_folders_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("library");
    fs::create_dir(&library).unwrap();
    fs::write(dir.path().join("list"), samples::VMSD).unwrap();
    std::os::unix::fs::symlink(dir.path().join("list"), library.join("web.vmsd")).unwrap();
    fs::write(library.join("web.vmx"), samples::VMX).unwrap();
    let error = read(&library.join("web.vmx")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

/// Mutated descriptions of every kind: `DORMOUSE_FUZZ_RUNS` makes it more of each.
#[test]
fn mutated_descriptions_never_panic_and_never_hang() {
    let runs: u64 = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(1500, |runs| runs.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.vmsd"), samples::VMSD).unwrap();
    fs::write(dir.path().join("web.ovf"), samples::OVF).unwrap();
    fs::write(
        dir.path().join("web.mf"),
        "SHA1(web.ovf)= a9993e364706816aba3e25717850c26c9cd0d89d\n",
    )
    .unwrap();
    let ova = dir.path().join("m.ova");
    crate::oracle::run(
        "tar",
        &[
            "-C",
            dir.path().to_str().unwrap(),
            "--format=pax",
            "-cf",
            ova.to_str().unwrap(),
            "web.ovf",
            "web.mf",
        ],
    );
    let mut saved = b"LibvirtQemudSave".to_vec();
    saved.extend(2_u32.to_le_bytes());
    saved.extend(u32::try_from(samples::LIBVIRT.len()).unwrap().to_le_bytes());
    saved.resize(92, 0);
    saved.extend(samples::LIBVIRT.as_bytes());
    let seeds: Vec<Vec<u8>> = [
        samples::LIBVIRT,
        samples::VMX,
        samples::VBOX,
        samples::OVF,
        samples::PROXMOX,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([fs::read(&ova).unwrap(), saved])
    .collect();
    let gate = LibraryGate::new([dir.path()]).unwrap();
    let path = dir.path().join("m");
    let mut random = Random(7);
    let mut read = 0;
    let started = Instant::now();
    for run in 0..runs {
        for seed in &seeds {
            let mut bytes = seed.clone();
            mutate(&mut bytes, &mut random);
            let source = Arc::new(Bytes::new(bytes));
            if let Ok(Some(machine)) = describe_source(source, &path, &gate) {
                read += 1;
                assert!(machine.disks.len() <= 256 && machine.snapshots.len() <= 4096);
            }
        }
        assert!(started.elapsed().as_secs() < 600, "hangs at run {run}");
    }
    assert!(read > runs, "most mutations still read: {read}");
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let pick = |random: &mut Random, bound: usize| {
        usize::try_from(random.below(u64::try_from(bound).unwrap())).unwrap()
    };
    for _ in 0..=random.below(3) {
        let at = pick(random, bytes.len().max(1));
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => {
                // A piece again, somewhere else.
                let len = pick(random, 200).min(bytes.len() - at.min(bytes.len()));
                let piece = bytes[at.min(bytes.len())..][..len].to_vec();
                let to = pick(random, bytes.len().max(1)).min(bytes.len());
                bytes.splice(to..to, piece);
            }
            2 => {
                let end = (at + pick(random, 60)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            3 => {
                const WORDS: [&[u8]; 8] = [
                    b"18446744073709551615",
                    b"-1",
                    b"<",
                    b"\"",
                    b"]",
                    b"\0",
                    b"\xff\xfe",
                    b"=\n[",
                ];
                let word = WORDS[pick(random, WORDS.len())];
                let at = at.min(bytes.len());
                bytes.splice(at..at, word.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next().to_le_bytes()[0];
                }
            }
        }
    }
}
