//! NTFS against ntfs-3g and wimlib.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Bytes, ErrorKind, GuestPath, Source};
use dormouse_filesystem::ntfs::Ntfs;
use dormouse_filesystem::{Filesystem, Guest, Left, NodeKind};
use rustix::fs::XattrFlags;

use crate::walk::{compare, open, walk, walk_host};
use crate::{Mounted, empty, hostile, must, must_as_root};

const OPTIONS: &[&str] = &["-o", "compression,allow_other,umask=000"];

fn made(folder: &Path, name: &str, options: &str, mib: u64) -> PathBuf {
    let image = empty(folder, name, mib << 20);
    let mut args: Vec<&str> = options.split_whitespace().collect();
    args.extend(["-F", "-Q", "-q", "-L", "Größe", image.to_str().unwrap()]);
    must("mkntfs", &args);
    image
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{name} of {}: {error}", path.display()));
}

/// Bytes that compress somewhat and do not repeat.
fn text(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut n = 1_u64;
    while out.len() < len {
        n = n
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(format!("line {} of {}\n", out.len(), n >> 50).as_bytes());
    }
    out.truncate(len);
    out
}

fn populate(root: &Path, names: usize, compressed: bool) {
    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    for n in 0..names {
        fs::write(
            many.join(format!("a rather long name {n}.txt")),
            n.to_string(),
        )
        .unwrap();
    }
    for n in (0..names).step_by(3) {
        fs::remove_file(many.join(format!("a rather long name {n}.txt"))).unwrap();
    }
    for (name, len) in [
        ("empty", 0),
        ("resident", 300),
        ("small", 5000),
        ("large", 300_000),
    ] {
        fs::write(root.join(name), text(len)).unwrap();
    }
    for name in [
        "Ünïcödé",
        "日本語",
        "😀",
        "lower",
        "Lower",
        &"x".repeat(255),
    ] {
        fs::write(root.join(name), name).unwrap();
    }
    let mut sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.write_all(b"begin").unwrap();
    sparse.seek(SeekFrom::Start(700_000)).unwrap();
    sparse.write_all(b"end").unwrap();
    sparse.set_len(900_001).unwrap();
    fs::hard_link(root.join("small"), root.join("many/linked")).unwrap();
    symlink("many/linked", root.join("link")).unwrap();
    let file = root.join("streams");
    fs::write(&file, "main").unwrap();
    set(
        &file,
        "user.Zone.Identifier",
        b"[ZoneTransfer]\r\nZoneId=3\r\n",
    );
    set(&file, "user.large", &text(20_000));
    set(&file, "system.ntfs_attrib_be", &0x21_u32.to_be_bytes());
    if compressed {
        let folder = root.join("compressed");
        fs::create_dir(&folder).unwrap();
        set(&folder, "system.ntfs_attrib_be", &0x800_u32.to_be_bytes());
        fs::write(folder.join("text"), text(300_000)).unwrap();
        fs::write(folder.join("zeroes"), vec![0; 200_000]).unwrap();
        let noise: Vec<u8> = text(400_000)
            .chunks(9)
            .map(|part| part.iter().fold(7, |a, b| a ^ b.wrapping_mul(167)))
            .collect();
        fs::write(folder.join("mixed"), [noise, text(100_000)].concat()).unwrap();
    }
}

#[test]
fn every_cluster_size_reads_as_ntfs_3g_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, mib, names, compressed) in [
        ("512", "-c 512", 12, 60, true),
        ("4096", "-c 4096", 24, 1500, true),
        ("sectors", "-c 4096 -s 4096", 24, 100, true),
        ("65536", "-c 65536", 48, 60, false),
        ("2m", "-c 2097152", 512, 10, false),
    ] {
        let image = made(folder.path(), name, options, mib);
        {
            let mounted = Mounted::by("ntfs-3g", &image, OPTIONS);
            populate(mounted.path(), names, compressed);
        }
        let mounted = Mounted::by("ntfs-3g", &image, &["-o", "ro,allow_other,umask=000"]);
        let theirs = walk_host(mounted.path());
        drop(mounted);
        let tree = open(&image);
        let ours = walk(&*tree).unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        assert!(ours.len() > 20, "{name}");
        compare(name, &ours, &theirs, &|found| {
            found.mode = 0;
            found.owner = (0, 0);
        });
        let info = tree.info();
        assert_eq!(info.kind, "ntfs");
        assert_eq!(info.label.as_deref(), Some("Größe"));
        assert_eq!(info.features, ["version-3.1"]);
        assert_eq!(tree.left(), Left::Clean);
        let told = must("ntfsinfo", &["-m", "-f", image.to_str().unwrap()]);
        let free = told
            .lines()
            .find_map(|line| line.trim().strip_prefix("Free Clusters: "))
            .unwrap_or_else(|| panic!("{told}"));
        let free: u64 = free.split_whitespace().next().unwrap().parse().unwrap();
        let cluster = told
            .lines()
            .find_map(|line| line.trim().strip_prefix("Cluster Size: "))
            .unwrap();
        assert_eq!(
            info.free,
            free * cluster.trim().parse::<u64>().unwrap(),
            "{name}"
        );
        // Names without regard to case, the equal one first.
        let find = |wanted: &str| tree.lookup(tree.root(), wanted.as_bytes()).unwrap();
        assert_eq!(find("ÜNÏCÖDÉ").unwrap().name, "Ünïcödé".as_bytes());
        assert_eq!(find("lower").unwrap().name, b"lower");
        assert_eq!(find("Lower").unwrap().name, b"Lower");
        assert!(find("LOWER").is_some());
        assert_eq!(find("none"), None);
        assert_eq!(find("$MFT"), None);
        // However often a folder is asked, so that all its names are known.
        let guest = Guest::of(tree.clone());
        for _ in 0..5 {
            for path in ["/SMALL", "/small", "/Many/LINKED"] {
                let path = GuestPath::new(path).unwrap();
                assert_eq!(guest.read(&path, 9000).unwrap().unwrap().len(), 5000);
            }
        }
        // Streams are attributes; the file is not to be written.
        let streams = find("streams").unwrap().node;
        let attributes = tree.xattrs(streams).unwrap();
        assert_eq!(attributes[&b"user.stream.large"[..]], text(20_000));
        assert_eq!(
            attributes[&b"user.stream.Zone.Identifier"[..]],
            b"[ZoneTransfer]\r\nZoneId=3\r\n"
        );
        assert_eq!(tree.metadata(streams).unwrap().mode, 0o555);
        fs::remove_file(image).unwrap();
    }
}

/// A file of many long names: its attributes take many records.
#[test]
fn attribute_lists_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "full", "-c 1024", 6);
    {
        let mounted = Mounted::by("ntfs-3g", &image, OPTIONS);
        let root = mounted.path();
        fs::write(root.join("big"), text(90_000)).unwrap();
        for n in 0..60 {
            fs::hard_link(root.join("big"), root.join(format!("{n:0>100}"))).unwrap();
        }
        fs::write(root.join("big"), text(120_000)).unwrap();
    }
    let mounted = Mounted::by("ntfs-3g", &image, &["-o", "ro,allow_other,umask=000"]);
    let theirs = walk_host(mounted.path());
    drop(mounted);
    let told = must("ntfsinfo", &["-F", "/big", image.to_str().unwrap()]);
    assert!(told.contains("ATTRIBUTE_LIST"), "{told}");
    let ours = walk(&*open(&image)).unwrap();
    compare("full", &ours, &theirs, &|found| {
        found.mode = 0;
        found.owner = (0, 0);
    });
}

/// The compressed resource of the only file in a Windows image: packed as Windows packs files in place.
fn packed_by_wimlib(folder: &Path, content: &[u8], packing: &str, chunk: &str) -> Vec<u8> {
    let from = folder.join(format!("from-{packing}-{chunk}"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), content).unwrap();
    let wim = folder.join(format!("{packing}-{chunk}.wim"));
    must(
        "wimlib-imagex",
        &[
            "capture",
            from.to_str().unwrap(),
            wim.to_str().unwrap(),
            &format!("--compress={packing}"),
            &format!("--chunk-size={chunk}"),
        ],
    );
    let bytes = fs::read(wim).unwrap();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    // The header names the table of resources; each takes 50 bytes there.
    let (table, size) = (number(56) as usize, number(64) as usize);
    let found = bytes[table..table + size]
        .chunks_exact(50)
        .position(|entry| entry[16..24] == (content.len() as u64).to_le_bytes())
        .unwrap();
    let entry = table + found * 50;
    let len = (number(entry) & 0x00FF_FFFF_FFFF_FFFF) as usize;
    assert_eq!(bytes[entry + 7] & 4, 4, "the resource is not compressed");
    let at = number(entry + 8) as usize;
    bytes[at..at + len].to_vec()
}

#[test]
fn files_that_windows_packed_are_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "wof", "-c 4096", 8);
    // Machine code, whose calls LZX translates.
    let mut content = fs::read("/proc/self/exe").unwrap();
    let start = content.len() / 3;
    content.drain(..start);
    content.truncate(80_003);
    let cases = [
        ("XPRESS", "4096", 0_u32),
        ("LZX", "32768", 1),
        ("XPRESS", "8192", 2),
        ("XPRESS", "16384", 3),
    ];
    {
        let mounted = Mounted::by("ntfs-3g", &image, OPTIONS);
        for (packing, chunk, algorithm) in cases {
            let packed = packed_by_wimlib(folder.path(), &content, packing, chunk);
            assert!(
                packed.len() < 64 << 10,
                "too large for an attribute: {}",
                packed.len()
            );
            let file = mounted.path().join(chunk);
            fs::File::create(&file)
                .unwrap()
                .set_len(content.len() as u64)
                .unwrap();
            set(&file, "user.WofCompressedData", &packed);
            let mut reparse = vec![0x17, 0, 0, 0x80, 16, 0, 0, 0];
            for number in [1, 2, 1, algorithm] {
                reparse.extend_from_slice(&u32::to_le_bytes(number));
            }
            set(&file, "system.ntfs_reparse_data", &reparse);
        }
        // A file in a Windows image elsewhere, one that was deduplicated, and what WSL and Windows make links of.
        let points: [(&str, u32, Vec<u8>); 5] = [
            (
                "wimboot",
                0x8000_0017,
                [1_u32, 1, 1, 0].map(u32::to_le_bytes).concat(),
            ),
            ("dedup", 0x8000_0013, vec![0; 16]),
            (
                "lxlink",
                0xA000_001D,
                [&2_u32.to_le_bytes()[..], b"a/b"].concat(),
            ),
            ("winlink", 0xA000_000C, windows_link(r"..\x\y", 1)),
            (
                "junction",
                0xA000_0003,
                windows_link(r"\??\C:\Users", u32::MAX),
            ),
        ];
        for (name, tag, body) in points {
            let path = mounted.path().join(name);
            if name == "junction" {
                fs::create_dir(&path).unwrap();
            } else {
                fs::write(&path, b"").unwrap();
            }
            let mut reparse = tag.to_le_bytes().to_vec();
            reparse.extend_from_slice(&[body.len() as u8, 0, 0, 0]);
            reparse.extend_from_slice(&body);
            set(&path, "system.ntfs_reparse_data", &reparse);
        }
    }
    let tree = open(&image);
    let find = |name: &str| {
        tree.lookup(tree.root(), name.as_bytes())
            .unwrap()
            .unwrap()
            .node
    };
    for (packing, chunk, _) in cases {
        let node = find(chunk);
        assert_eq!(tree.metadata(node).unwrap().size, content.len() as u64);
        let mut bytes = vec![0; content.len() + 5];
        assert_eq!(
            tree.read_at(node, 0, &mut bytes).unwrap(),
            content.len(),
            "{packing} {chunk}"
        );
        assert!(
            bytes[..content.len()] == content,
            "{packing} {chunk}: other bytes"
        );
        assert_eq!(tree.read_at(node, 79_000, &mut bytes[..10]).unwrap(), 10);
        assert_eq!(bytes[..10], content[79_000..79_010]);
        assert!(tree.xattrs(node).unwrap().is_empty());
    }
    for (name, why) in [("wimboot", "WIMBoot"), ("dedup", "dedup")] {
        let error = tree.read_at(find(name), 0, &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(why), "{error}");
    }
    for (name, target) in [
        ("lxlink", "a/b"),
        ("winlink", "../x/y"),
        ("junction", "/Users"),
    ] {
        assert_eq!(
            tree.metadata(find(name)).unwrap().kind,
            NodeKind::Symlink,
            "{name}"
        );
        assert_eq!(tree.read_link(find(name)).unwrap(), target.as_bytes());
    }
}

#[test]
fn links_and_devices_of_wsl_and_interix_read_as_ntfs_3g_reads_them() {
    for special in ["wsl", "interix"] {
        let folder = tempfile::tempdir().unwrap();
        let image = made(folder.path(), special, "-c 4096", 8);
        let options = format!("allow_other,umask=000,special_files={special}");
        let mounted = Mounted::by("ntfs-3g", &image, &["-o", &options]);
        let root = mounted.path();
        symlink("a/b", root.join("link")).unwrap();
        for (name, kind) in [("char", "c"), ("block", "b")] {
            must_as_root(
                "mknod",
                &[root.join(name).to_str().unwrap(), kind, "300", "70001"],
            );
        }
        if special == "wsl" {
            must_as_root("mkfifo", &[root.join("fifo").to_str().unwrap()]);
        }
        let theirs = walk_host(root);
        drop(mounted);
        let ours = walk(&*open(&image)).unwrap();
        assert_eq!(ours.len(), if special == "wsl" { 4 } else { 3 });
        compare(special, &ours, &theirs, &|found| {
            found.mode = 0;
            found.owner = (0, 0);
            if found.device.is_some() || found.kind == NodeKind::Fifo {
                found.size = 0;
            }
        });
    }
}

fn windows_link(target: &str, flags: u32) -> Vec<u8> {
    let units: Vec<u8> = target.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let len = units.len() as u16;
    let mut out: Vec<u8> = [0, len, 0, len].map(u16::to_le_bytes).concat();
    if flags != u32::MAX {
        out.extend_from_slice(&flags.to_le_bytes());
    }
    [out, units].concat()
}

#[test]
fn dirty_and_hibernated_volumes_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "left", "-c 4096", 8);
    must("ntfsfix", &["-n", image.to_str().unwrap()]);
    {
        let mounted = Mounted::by("ntfs-3g", &image, OPTIONS);
        let mut head = vec![0; 4096];
        head[..4].copy_from_slice(b"wake");
        fs::write(mounted.path().join("hiberfil.sys"), head).unwrap();
    }
    assert_eq!(open(&image).left(), Left::Clean);
    {
        let mounted = Mounted::by("ntfs-3g", &image, OPTIONS);
        let mut head = vec![0; 4096];
        head[..4].copy_from_slice(b"hibr");
        fs::write(mounted.path().join("hiberfil.sys"), head).unwrap();
    }
    let Left::Hibernated(why) = open(&image).left() else {
        panic!("the hibernated memory was not seen");
    };
    assert!(why.contains("fast startup"), "{why}");
    {
        let mounted = Mounted::by("ntfs-3g", &image, &["-o", "remove_hiberfile"]);
        assert!(!mounted.path().join("hiberfil.sys").exists());
    }
    assert_eq!(open(&image).left(), Left::Clean);
    // ntfsfix marks the volume, so that Windows checks it.
    must("ntfsfix", &[image.to_str().unwrap()]);
    let Left::Unclean(why) = open(&image).left() else {
        panic!("the dirty flag was not seen");
    };
    assert!(why.contains("dirty"), "{why}");
}

#[test]
fn encrypted_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "efs", "-c 4096", 8);
    {
        let mounted = Mounted::by("ntfs-3g", &image, OPTIONS);
        fs::write(mounted.path().join("secret"), text(9000)).unwrap();
    }
    let mut bytes = fs::read(&image).unwrap();
    let name: Vec<u8> = "secret".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let record = (0..bytes.len() / 1024)
        .map(|n| n * 1024)
        .find(|at| {
            bytes[*at..].starts_with(b"FILE")
                && bytes[*at..at + 1024]
                    .windows(name.len())
                    .any(|part| part == name)
        })
        .unwrap();
    let mut at = record + usize::from(bytes[record + 20]);
    while bytes[at] != 0x80 {
        at += usize::from(bytes[at + 4]);
    }
    bytes[at + 13] |= 0x40;
    let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
    let tree = Ntfs.open(volume).unwrap();
    let node = tree.lookup(tree.root(), b"SECRET").unwrap().unwrap().node;
    assert_eq!(tree.metadata(node).unwrap().size, 9000);
    let error = tree.read_at(node, 0, &mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("EFS"), "{error}");
}

/// The end of a leaf that leads to the leaf itself.
#[test]
fn an_index_that_leads_to_itself_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "loop", "-c 4096", 8);
    {
        let mounted = Mounted::by("ntfs-3g", &image, OPTIONS);
        populate(mounted.path(), 200, false);
    }
    let mut bytes = fs::read(&image).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long: Vec<u8> = "rather long name"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let mut changed = 0;
    for at in (0..bytes.len()).step_by(4096) {
        let is = bytes[at..].starts_with(b"INDX")
            && bytes[at + 36] == 0
            && bytes[at..at + 4096]
                .windows(long.len())
                .any(|part| part == long);
        if !is {
            continue;
        }
        let end = at + 24 + word(&bytes, at + 28) as usize - 16;
        // The last two bytes of a sector are kept elsewhere.
        if end % 512 > 512 - 32 || end + 24 > at + 4096 {
            continue;
        }
        let number: [u8; 8] = bytes[at + 16..at + 24].try_into().unwrap();
        let len = word(&bytes, at + 28) + 8;
        bytes[at + 28..at + 32].copy_from_slice(&len.to_le_bytes());
        bytes[at + 36] = 1;
        bytes[end + 8] = 24;
        bytes[end + 12] = 3;
        bytes[end + 16..end + 24].copy_from_slice(&number);
        changed += 1;
    }
    assert!(changed > 0);
    let volume: Arc<dyn Source> = Arc::new(Bytes::new(bytes));
    let tree = Ntfs.open(volume).unwrap();
    let many = tree.lookup(tree.root(), b"many").unwrap().unwrap().node;
    let error = tree.read_dir(many).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("circle"), "{error}");
    for n in 0..200 {
        let name = format!("a rather long name {n}.txt");
        let _ = tree.lookup(many, name.as_bytes());
        let _ = tree.lookup(many, format!("{name}x").as_bytes());
    }
}

#[test]
fn mutated_images_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "a", "-c 512", 4);
    {
        let mounted = Mounted::by("ntfs-3g", &image, OPTIONS);
        populate(mounted.path(), 90, true);
    }
    let bytes = fs::read(&image).unwrap();
    let sector = u64::from_le_bytes(bytes[48..56].try_into().unwrap()) as usize * 512;
    hostile::mutate(
        &Ntfs,
        &[bytes],
        &[(0, 80), (sector, 12 << 10), (sector + (24 << 10), 64 << 10)],
    );
}
