//! Package files: real ones against dpkg-deb, hostile ones by construction and by mutation.
#![allow(
    clippy::disallowed_methods,
    reason = "tests write folders of their own and run the oracle"
)]
#![allow(clippy::panic, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use dormouse_block::{Digest, ErrorKind, Result};
use dormouse_remedy::deb::{EntryKind, Identity, Limits, Unpacked, unpack};

fn fixtures() -> Vec<PathBuf> {
    let root = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    let mut todo = vec![root.join("packages/deb")];
    let mut out = Vec::new();
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|ending| ending == "deb") {
                out.push(path);
            }
        }
    }
    out.sort();
    assert!(out.len() >= 14, "the fixtures hold packages");
    out
}

fn dpkg_deb(arguments: &[&str], path: &Path) -> Vec<u8> {
    let output = Command::new("dpkg-deb")
        .env("LC_ALL", "C")
        .args(arguments)
        .arg(path)
        .output()
        .expect("this test needs dpkg-deb");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Reads a package file, keeping its contents by their place.
fn read(
    bytes: &[u8],
    identity: Option<&Identity>,
    limits: &Limits,
) -> Result<(Unpacked, BTreeMap<u64, Vec<u8>>)> {
    let mut contents = BTreeMap::new();
    let unpacked = unpack(bytes, identity, limits, &mut |head, content| {
        let mut bytes = Vec::new();
        content
            .read_to_end(&mut bytes)
            .map_err(|error| dormouse_block::Error::io("cannot read", error))?;
        assert_eq!(u64::try_from(bytes.len()).unwrap(), head.size);
        contents.insert(head.offset, bytes);
        Ok(())
    })?;
    Ok((unpacked, contents))
}

#[test]
fn real_packages_hold_what_dpkg_deb_finds_in_them() {
    for path in fixtures() {
        let bytes = std::fs::read(&path).unwrap();
        let (unpacked, contents) = read(&bytes, None, &Limits::default()).unwrap();
        assert_eq!(unpacked.payload, Digest::of(&bytes));
        assert_eq!(unpacked.size, u64::try_from(bytes.len()).unwrap());
        let control = dpkg_deb(&["--info"], &path);
        assert!(!control.is_empty());
        for field in ["Package", "Version", "Architecture", "Depends"] {
            let expected = String::from_utf8(dpkg_deb(
                &["--show", &format!("--showformat=${{{field}}}")],
                &path,
            ))
            .unwrap();
            assert_eq!(
                unpacked.control.get(field).unwrap_or_default(),
                expected,
                "{field} of {}",
                path.display()
            );
        }
        // The whole data archive: every content lies where we say it does.
        let tar = dpkg_deb(&["--fsys-tarfile"], &path);
        for entry in &unpacked.entries {
            if let EntryKind::File {
                offset,
                size,
                sha256,
                ..
            } = &entry.kind
            {
                let from = usize::try_from(*offset).unwrap();
                let expected = &tar[from..from + usize::try_from(*size).unwrap()];
                assert_eq!(contents[offset], expected);
                assert_eq!(*sha256, Digest::of(expected));
            }
        }
        let listing = String::from_utf8(dpkg_deb(&["--contents"], &path)).unwrap();
        assert_eq!(listing.lines().count(), unpacked.entries.len());
        for (line, entry) in listing.lines().zip(&unpacked.entries) {
            let name = line.split(" ./").nth(1).unwrap_or_default();
            let name = name
                .split(" -> ")
                .next()
                .unwrap()
                .split(" link to ")
                .next()
                .unwrap();
            assert_eq!(
                format!("/{}", name.trim_end_matches('/')),
                entry.path.to_string()
            );
        }
    }
}

#[test]
fn every_compression_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    std::fs::create_dir_all(work.join("DEBIAN")).unwrap();
    std::fs::create_dir_all(work.join("usr/bin")).unwrap();
    std::fs::write(
        work.join("DEBIAN/control"),
        "Package: any\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n",
    )
    .unwrap();
    std::fs::write(work.join("usr/bin/any"), vec![7; 300_000]).unwrap();
    for kind in ["none", "gzip", "xz", "zstd"] {
        let out = folder.path().join(format!("{kind}.deb"));
        let output = Command::new("dpkg-deb")
            .args(["--root-owner-group", &format!("-Z{kind}"), "--build"])
            .arg(&work)
            .arg(&out)
            .output()
            .expect("this test needs dpkg-deb");
        assert!(
            output.status.success(),
            "{kind}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (unpacked, contents) =
            read(&std::fs::read(&out).unwrap(), None, &Limits::default()).unwrap();
        assert_eq!(unpacked.content_size, 300_000, "{kind}");
        assert_eq!(contents.values().next().unwrap()[..3], [7, 7, 7]);
    }
}

fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
        0,
        0,
        0,
        100_644,
        bytes.len()
    )
    .into_bytes();
    out.extend_from_slice(bytes);
    if bytes.len() % 2 == 1 {
        out.push(b'\n');
    }
    out
}

fn header(name: &str, kind: u8, size: usize, link: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000012");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar  \0");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn entry(name: &str, kind: u8, bytes: &[u8], link: &str) -> Vec<u8> {
    let mut out = header(name, kind, bytes.len(), link);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn deb(control: &str, data: &[u8], ending: &str) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    out.extend(member("debian-binary", b"2.0\n"));
    out.extend(member(
        "control.tar",
        &[
            entry("./control", b'0', control.as_bytes(), ""),
            vec![0; 1024],
        ]
        .concat(),
    ));
    out.extend(member(&format!("data.tar{ending}"), data));
    out
}

const CONTROL: &str = "Package: ab\nVersion: 1\nArchitecture: all\nInstalled-Size: 1\n";

#[test]
fn a_package_that_disagrees_with_its_index_is_refused_by_name() {
    let identity = Identity {
        name: "ab".into(),
        version: "2".into(),
        architecture: "all".into(),
    };
    let error = read(
        &deb(CONTROL, &[0; 1024], ""),
        Some(&identity),
        &Limits::default(),
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("Version 2"), "{error}");
}

#[test]
fn links_out_of_the_tree_and_into_each_other_are_refused() {
    for (entries, why) in [
        (
            vec![entry("./a", b'1', b"", "./etc/shadow")],
            "no earlier file",
        ),
        (
            vec![
                entry("./a", b'2', b"", "/etc"),
                entry("./a/passwd", b'0', b"x", ""),
            ],
            "below a link",
        ),
        (
            vec![entry("./a", b'0', b"1", ""), entry("./a", b'0', b"2", "")],
            "one path twice",
        ),
        (vec![entry("./../a", b'0', b"1", "")], "bad name"),
        (
            vec![entry("./a", b'5', b"", ""), entry("./b", b'1', b"", "./a")],
            "no earlier file",
        ),
    ] {
        let data = [entries.concat(), vec![0; 1024]].concat();
        let error = read(&deb(CONTROL, &data, ""), None, &Limits::default()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_bomb_ends_at_its_announced_size() {
    let mut data = header("./a", b'0', 1 << 30, "");
    data.resize(512 + (200 << 20), 0);
    let bomb = zstd::encode_all(data.as_slice(), 3).unwrap();
    assert!(bomb.len() < 100_000);
    let error = unpack(
        deb(CONTROL, &bomb, ".zst").as_slice(),
        None,
        &Limits::default(),
        &mut |_, _| Ok(()),
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let many: Vec<u8> = (0..2000)
        .flat_map(|number| header(&format!("./{number}"), b'5', 0, ""))
        .collect();
    let limits = Limits {
        entries: 1000,
        ..Limits::default()
    };
    let error = read(&deb(CONTROL, &many, ""), None, &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn other_containers_are_refused() {
    for bytes in [
        b"".to_vec(),
        b"0.939000\n12\n".to_vec(),
        [b"!<arch>\n".to_vec(), member("debian-binary", b"3.0\n")].concat(),
        [b"!<arch>\n".to_vec(), member("control.tar", b"")].concat(),
        [
            b"!<arch>\n".to_vec(),
            member("debian-binary", b"2.0\n"),
            member("surplus", b""),
            member("control.tar", b""),
        ]
        .concat(),
        deb("Package: ab\n", &[0; 1024], ""),
        deb(CONTROL, b"no lzma", ".lzma"),
        deb(CONTROL, b"broken", ".xz"),
        deb(CONTROL, b"broken", ".gz"),
        deb(CONTROL, b"broken", ".zst"),
        deb(CONTROL, b"broken", ".bz2"),
    ] {
        let error = read(&bytes, None, &Limits::default()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported),
            "{error}"
        );
    }
}

/// A small generator (xorshift64*), so that a seed names a case for ever.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % below
    }
}

#[test]
fn mutated_packages_are_read_or_refused_and_never_a_panic() {
    let data = [
        entry("./", b'5', b"", ""),
        entry("./usr/", b'5', b"", ""),
        entry("./usr/a", b'0', &[1; 700], ""),
        entry("./usr/b", b'1', b"", "./usr/a"),
        entry("./usr/c", b'2', b"", "a"),
        entry("././@LongLink", b'L', "x".repeat(150).as_bytes(), ""),
        entry("short", b'0', b"y", ""),
        vec![0; 1024],
    ]
    .concat();
    let plain = deb(CONTROL, &data, "");
    let packed = deb(
        CONTROL,
        &liblzma::encode_all(data.as_slice(), 1).unwrap(),
        ".xz",
    );
    let real = std::fs::read(&fixtures()[0]).unwrap();
    let limits = Limits {
        control: 1 << 20,
        data: 8 << 20,
        ratio: 4,
        slack: 8 << 20,
        entries: 10_000,
    };
    let mut chance = Chance(0x1234_5678_9ABC_DEF1);
    let mut refused = 0;
    for round in 0..6000 {
        let source = match round % 20 {
            0 => &real,
            n if n % 2 == 0 => &plain,
            _ => &packed,
        };
        let mut bytes = source.clone();
        for _ in 0..=chance.next(4) {
            let at = chance.next(bytes.len());
            match chance.next(6) {
                0 => bytes[at] = 0xff,
                1 => bytes[at] = 0,
                2 => bytes[at] ^= 1 << chance.next(8),
                3 => bytes.truncate(at.max(1)),
                4 => {
                    let part = bytes[at..(at + 64).min(bytes.len())].to_vec();
                    let to = chance.next(bytes.len());
                    for (offset, byte) in part.into_iter().enumerate() {
                        if let Some(place) = bytes.get_mut(to + offset) {
                            *place = byte;
                        }
                    }
                }
                _ => bytes[at] = b'0' + u8::try_from(chance.next(10)).unwrap(),
            }
        }
        match read(&bytes, None, &limits) {
            Ok((unpacked, contents)) => {
                assert!(unpacked.data_size <= limits.data);
                let sum: usize = contents.values().map(Vec::len).sum();
                assert_eq!(unpacked.content_size, u64::try_from(sum).unwrap());
            }
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    ErrorKind::Io,
                    "round {round}: {}",
                    error.with_causes()
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 3000, "{refused}");
}
