//! Encrypted qcow2 and qcow images, byte for byte against what QEMU's own tools read with the same key.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod oracle;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use dormouse_block::ErrorKind::{Corrupt, Unsupported};
use dormouse_block::{ErrorKind, Result, Source, read_vec_at};
use dormouse_disk::{ACTIVE, Image, Keys, LibraryGate, OpenOptions};
use oracle::{Random, run, seed_raw};

/// A megabyte and more, which ends within a cluster.
const SIZE: u64 = 1024 * 1024 + 512 * 77;
const KEY: &str = "open sesame";
const LUKS: &str = "encrypt.key-secret=key,encrypt.iter-time=10,encrypt.format=luks";
const AES: &str = "encrypt.key-secret=key,encrypt.format=aes,cluster_size=4k";
const OTHER: &str = "another key, of more than sixteen bytes";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.at("key"), KEY).unwrap();
        std::fs::write(folder.at("other"), OTHER).unwrap();
        seed_raw(&folder.at("seed.raw"), SIZE, 5);
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// Runs a tool of QEMU's that knows both keys by name.
    fn qemu(&self, program: &str, command: &str, args: &[&str]) -> String {
        let secret = |id: &str| format!("secret,id={id},file={}", self.name(id));
        let (key, other) = (secret("key"), secret("other"));
        let mut all = Vec::new();
        if !command.is_empty() {
            all.push(command);
        }
        all.extend(["--object", &key, "--object", &other]);
        all.extend(args);
        run(program, &all)
    }

    /// The seed encrypted with LUKS as QEMU does unless told otherwise. QEMU takes two seconds to choose how slow a key
    /// is to be, so one image serves all tests.
    fn luks(&self, to: &str) -> PathBuf {
        static MADE: OnceLock<Vec<u8>> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let made = self.convert("qcow2", LUKS, "made");
            std::fs::read(made).unwrap()
        });
        std::fs::write(self.at(to), made).unwrap();
        self.at(to)
    }

    /// The seed as an image encrypted so.
    fn convert(&self, format: &str, options: &str, to: &str) -> PathBuf {
        self.qemu(
            "qemu-img",
            "convert",
            &[
                "-f",
                "raw",
                "-O",
                format,
                "-o",
                options,
                &self.name("seed.raw"),
                &self.name(to),
            ],
        );
        self.at(to)
    }

    /// Writes, zeroes and, where the format can, compresses in many places.
    fn scatter(&self, options: &str, packs: bool, seed: u64) {
        let mut random = Random(seed);
        let mut commands = String::new();
        for _ in 0..16 {
            let from = random.below(SIZE / 512) * 512;
            let size = ((random.below(300) + 1) * 512).min(SIZE - from);
            let pattern = random.below(255) + 1;
            match random.below(4) {
                0 if packs => commands.push_str(&format!("write -z {from} {size}\n")),
                1 if packs => {
                    // Only what is not allocated is compressed.
                    let at = from / 65536 * 65536;
                    let size = (SIZE - at).min(65536);
                    commands.push_str(&format!("discard {at} {size}\n"));
                    commands.push_str(&format!("write -c -P {pattern} {at} {size}\n"));
                }
                _ => commands.push_str(&format!("write -P {pattern} {from} {size}\n")),
            }
        }
        let mut child = Command::new("qemu-io")
            .args(["-d", "unmap", "--object"])
            .arg(format!("secret,id=key,file={}", self.name("key")))
            .arg("--object")
            .arg(format!("secret,id=other,file={}", self.name("other")))
            .args(["--image-opts", options])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle qemu-io is required");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(commands.as_bytes())
            .unwrap();
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{options}: {said}");
        assert!(said.contains("wrote"), "{options}: {said}");
    }

    /// What QEMU reads of the image that `options` describe, or of a snapshot inside.
    fn as_qemu_reads(&self, options: &str, snapshot: Option<&str>) -> PathBuf {
        let raw = self.name("as-qemu-reads.raw");
        let mut args = vec!["--image-opts", options, "-O", "raw"];
        if let Some(snapshot) = snapshot {
            args.extend(["-l", snapshot]);
        }
        args.push(&raw);
        self.qemu("qemu-img", "convert", &args);
        self.at("as-qemu-reads.raw")
    }
}

/// Compares in few pieces: ciphers without instructions of their own are slow without optimization.
fn assert_same(source: &dyn Source, raw: &Path, what: &str) {
    oracle::assert_same_in(source, raw, what, 30, 5000);
}

fn open(path: &Path, keys: &[&str]) -> Result<Box<dyn Image>> {
    let gate = LibraryGate::new([path.parent().unwrap()]).unwrap();
    let keys = Keys::new(keys.iter().map(|key| key.as_bytes().to_vec())).unwrap();
    dormouse_disk::open(path, &OpenOptions::new(Arc::new(gate)).keys(keys))
}

fn active(path: &Path, keys: &[&str]) -> Result<Arc<dyn Source>> {
    open(path, keys)?.open_point(ACTIVE)
}

fn refused(path: &Path, keys: &[&str], kind: ErrorKind, words: &[&str]) {
    let error = active(path, keys).err().expect("it must not open");
    let said = error.with_causes();
    assert_eq!(error.kind(), kind, "{said}");
    for word in words {
        assert!(said.contains(word), "{said} lacks {word:?}");
    }
}

/// Each as another cipher, mode, vector and digest, over other shapes of the container.
const IMAGES: &[(&str, &str, &str)] = &[
    ("qcow2", "LUKS", ""),
    (
        "qcow2",
        "LUKS",
        "extended_l2=on,cluster_size=16k,encrypt.cipher-alg=serpent-256",
    ),
    (
        "qcow2",
        "LUKS",
        "compat=0.10,encrypt.cipher-alg=twofish-256,encrypt.ivgen-alg=plain,encrypt.hash-alg=sha512",
    ),
    ("qcow2", "AES", "encrypt.format=aes"),
    (
        "qcow2",
        "AES",
        "encrypt.format=aes,compat=0.10,cluster_size=4k",
    ),
    ("qcow", "AES", "encrypt.format=aes"),
];

#[test]
fn every_encryption_reads_as_qemu_reads_it() {
    let folder = Folder::new();
    for (number, (format, how, shape)) in (0..).zip(IMAGES) {
        let options = match *how {
            "LUKS" => format!("{LUKS},{shape}"),
            _ => format!("encrypt.key-secret=key,{shape}"),
        };
        let disk = match *shape {
            "" => folder.luks("disk"),
            _ => folder.convert(format, &options, "disk"),
        };
        let opts = format!(
            "driver={format},file.filename={},encrypt.key-secret=key",
            folder.name("disk")
        );
        folder.scatter(&opts, *format == "qcow2", 100 + number);
        let before = folder.as_qemu_reads(&opts, None);
        // A key of its own file, one that an editor ended with a newline, and the right one among wrong ones.
        for keys in [&[KEY][..], &["open sesame\n"], &["wrong", OTHER, KEY]] {
            let source = active(&disk, keys).unwrap();
            let head = read_vec_at(&*source, 0, 4096).unwrap();
            assert!(head == std::fs::read(&before).unwrap()[..4096], "{options}");
        }
        assert_same(&*active(&disk, &[KEY]).unwrap(), &before, &options);
        if *format == "qcow2" {
            folder.qemu(
                "qemu-img",
                "snapshot",
                &["--image-opts", "-c", "one", &opts],
            );
            folder.scatter(&opts, true, 200 + number);
            let opened = open(&disk, &[KEY]).unwrap();
            for (point, snapshot) in [(ACTIVE, None), ("1", Some("one"))] {
                let raw = folder.as_qemu_reads(&opts, snapshot);
                assert_same(&*opened.open_point(point).unwrap(), &raw, &options);
            }
        }
        // Without a key, and with a wrong one, all is known but the bytes.
        let name = disk.file_name().unwrap().to_str().unwrap();
        refused(
            &disk,
            &[],
            Unsupported,
            &["is encrypted with", how, "no key was given", name],
        );
        refused(
            &disk,
            &[OTHER],
            Unsupported,
            &[how, "the key that was given does not open it"],
        );
        refused(
            &disk,
            &[OTHER, "x"],
            Unsupported,
            &[how, "none of the 2 keys opens it"],
        );
        let opened = open(&disk, &[]).unwrap();
        assert_eq!(opened.virtual_size(), SIZE);
        assert_eq!(opened.files()[0].encryption.as_deref(), Some(*how));
        assert!(opened.chain().is_encrypted());
        assert_eq!(
            opened.points().len(),
            if *format == "qcow2" { 2 } else { 1 }
        );
    }
}

#[test]
fn clusters_in_another_file_are_encrypted_where_they_lie_there() {
    let folder = Folder::new();
    let data = folder.name("disk.data");
    let options =
        format!("data_file={data},encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10");
    let (disk, size) = (folder.name("disk"), SIZE.to_string());
    folder.qemu(
        "qemu-img",
        "create",
        &["-q", "-f", "qcow2", "-o", &options, &disk, &size],
    );
    let opts = format!("driver=qcow2,file.filename={disk},encrypt.key-secret=key");
    folder.scatter(&opts, false, 7);
    let raw = folder.as_qemu_reads(&opts, None);
    let source = active(Path::new(&disk), &[KEY]).unwrap();
    assert_same(&*source, &raw, &options);
}

#[test]
fn layers_of_a_chain_have_keys_of_their_own() {
    let folder = Folder::new();
    folder.luks("base");
    let layer = |format: &str, options: &str, on: &str, kind: &str, to: &str| {
        let mut args = vec!["-q", "-u", "-f", format];
        if !options.is_empty() {
            args.extend(["-o", options]);
        }
        let (to, size) = (folder.name(to), SIZE.to_string());
        args.extend(["-b", on, "-F", kind, &to, &size]);
        folder.qemu("qemu-img", "create", &args);
    };
    layer("qcow2", "", "base", "qcow2", "middle");
    let aes = "encrypt.format=aes,encrypt.key-secret=other";
    layer("qcow2", aes, "middle", "qcow2", "top");
    let driver =
        |format: &str, name: &str| format!("driver={format},file.filename={}", folder.name(name));
    let base = "backing.driver=qcow2,backing.encrypt.key-secret=key";
    let middle = format!("{},{base}", driver("qcow2", "middle"));
    let top = format!(
        "{},encrypt.key-secret=other,backing.driver=qcow2,backing.backing.driver=qcow2,\
         backing.backing.encrypt.key-secret=key",
        driver("qcow2", "top")
    );
    for (name, opts, seed) in [("middle", &middle, 1), ("top", &top, 2)] {
        folder.scatter(opts, true, seed);
        let raw = folder.as_qemu_reads(opts, None);
        assert_same(
            &*active(&folder.at(name), &[KEY, OTHER]).unwrap(),
            &raw,
            name,
        );
    }
    // Older formats over an encrypted image.
    for (format, name) in [("qcow", "old"), ("qed", "other-old")] {
        layer(format, "", "base", "qcow2", name);
        let opts = format!("{},{base}", driver(format, name));
        folder.scatter(&opts, false, 3);
        let raw = folder.as_qemu_reads(&opts, None);
        assert_same(&*active(&folder.at(name), &[KEY]).unwrap(), &raw, name);
        refused(
            &folder.at(name),
            &[],
            Unsupported,
            &["base", "LUKS1", "no key was given"],
        );
    }
    // What lacks a key is named, and the chain is known all the same.
    refused(
        &folder.at("top"),
        &[OTHER],
        Unsupported,
        &["base cannot be opened", "LUKS1"],
    );
    refused(
        &folder.at("top"),
        &[KEY],
        Unsupported,
        &["top cannot be opened", "AES"],
    );
    refused(
        &folder.at("middle"),
        &[],
        Unsupported,
        &["base cannot be opened", "no key"],
    );
    let opened = open(&folder.at("top"), &[]).unwrap();
    let seen: Vec<_> = opened
        .files()
        .iter()
        .map(|file| file.encryption.as_deref())
        .collect();
    assert_eq!(seen, [Some("AES"), None, Some("LUKS")]);
}

/// QEMU 10 dies of saving a machine in an encrypted image (an assertion in `qcow2_co_encdec`), so what would be saved is
/// written where it would be, and the snapshot is told of it.
#[test]
fn memory_saved_in_an_encrypted_image_is_read() {
    let folder = Folder::new();
    for (options, disk) in [
        (LUKS, folder.luks("disk")),
        (AES, folder.convert("qcow2", AES, "other-disk")),
    ] {
        let opts = format!(
            "driver=qcow2,file.filename={},encrypt.key-secret=key",
            disk.display()
        );
        folder.qemu(
            "qemu-io",
            "",
            &[
                "--image-opts",
                &opts,
                "-c",
                "write -b -P 170 0 64k",
                "-c",
                "write -b -P 187 64k 6k",
            ],
        );
        folder.qemu(
            "qemu-img",
            "snapshot",
            &["--image-opts", "-c", "asleep", &opts],
        );
        let mut bytes = std::fs::read(&disk).unwrap();
        let table = usize::try_from(u64::from_be_bytes(bytes[64..72].try_into().unwrap())).unwrap();
        let len: u32 = (64 << 10) + (6 << 10);
        // In 32 bits, and in the first 64 of what follows.
        put(&mut bytes, table + 32, &len.to_be_bytes());
        put(&mut bytes, table + 40, &u64::from(len).to_be_bytes());
        std::fs::write(&disk, bytes).unwrap();
        let opened = open(&disk, &[KEY]).unwrap();
        let memory = opened.memory("1").unwrap().unwrap();
        let all = read_vec_at(&*memory, 0, usize::try_from(len).unwrap()).unwrap();
        let (first, second) = all.split_at(64 << 10);
        assert!(first.iter().all(|byte| *byte == 170), "{options}");
        assert!(second.iter().all(|byte| *byte == 187), "{options}");
        assert_same(
            &*opened.open_point("1").unwrap(),
            &folder.at("seed.raw"),
            options,
        );
        assert!(open(&disk, &[]).unwrap().memory("1").is_err());
    }
}

/// Where the LUKS header lies, by the extension at `place`.
fn header_at(image: &[u8], place: usize) -> usize {
    let at = image[place..place + 8].try_into().unwrap();
    usize::try_from(u64::from_be_bytes(at)).unwrap()
}

/// Where the data of the extension are that says where the LUKS header lies.
fn luks_header(image: &[u8]) -> usize {
    let mut at = 112;
    while image[at..at + 4] != 0x0537_be77_u32.to_be_bytes() {
        let len = u32::from_be_bytes(image[at + 4..at + 8].try_into().unwrap());
        at += 8 + usize::try_from(len).unwrap().next_multiple_of(8);
    }
    at + 8
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[test]
fn broken_headers_are_refused_by_name() {
    let folder = Folder::new();
    let disk = folder.luks("disk");
    let sound = std::fs::read(&disk).unwrap();
    let place = luks_header(&sound);
    let header = header_at(&sound, place);
    let end = u64::try_from(sound.len()).unwrap();
    let case = |kind, word: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        std::fs::write(&disk, bytes).unwrap();
        refused(&disk, &[KEY], kind, &[word, "disk"]);
    };
    let be64 = |value: u64| value.to_be_bytes();
    case(Corrupt, "does not say where", &|b| {
        put(b, place - 8, &[9, 9, 9, 9]);
    });
    case(Corrupt, "is not encrypted with LUKS", &|b| {
        put(b, 32, &[0; 4]);
    });
    case(Unsupported, "unknown method 3", &|b| {
        put(b, 32, &[0, 0, 0, 3]);
    });
    case(Corrupt, "does not begin at a cluster", &|b| {
        put(b, place, &be64(12));
    });
    case(Corrupt, "LUKS header lies beyond the end", &|b| {
        put(b, place, &be64(1 << 40));
    });
    case(Corrupt, "LUKS header lies beyond the end", &|b| {
        put(b, place + 8, &be64(end));
    });
    case(Corrupt, "LUKS header lies beyond the end", &|b| {
        put(b, place + 8, &be64(u64::MAX));
    });
    case(Corrupt, "there is no LUKS header", &|b| {
        put(b, place + 8, &be64(4));
    });
    case(Corrupt, "bytes are wanted of a source", &|b| {
        put(b, place + 8, &be64(300));
    });
    case(Corrupt, "there is no LUKS header", &|b| {
        put(b, header, b"LUKS??");
    });
    case(Corrupt, "there is no LUKS header", &|b| {
        put(b, place, &be64(0));
    });
    case(Unsupported, "LUKS of version 3", &|b| {
        put(b, header + 6, &[0, 3]);
    });
    case(Unsupported, "cipher", &|b| put(b, header + 8, b"rot13\0"));
    case(Unsupported, "digest", &|b| {
        put(b, header + 72, b"crc32\0\0");
    });
    // Iterations, stripes and the place of the first slot; its material; the digest of the key.
    case(Corrupt, "no iteration", &|b| put(b, header + 212, &[0; 4]));
    case(ErrorKind::Limit, "work allowed", &|b| {
        put(b, header + 212, &[0xff; 4]);
    });
    case(ErrorKind::Limit, "stripes", &|b| {
        put(b, header + 252, &[0xff; 4]);
    });
    case(Corrupt, "slot cannot be tried", &|b| {
        put(b, header + 248, &[0xff; 4]);
    });
    case(Unsupported, "does not open it", &|b| {
        b[header + 4096 + 77] ^= 1;
    });
    case(Unsupported, "does not open it", &|b| b[header + 113] ^= 1);
    case(Unsupported, "does not open it", &|b| {
        put(b, header + 208, &[0, 0, 0xde, 0xad]);
    });
    // Where the data would begin on a plain LUKS disk says nothing here.
    let mut bytes = sound.clone();
    put(&mut bytes, header + 104, &[0; 4]);
    std::fs::write(&disk, bytes).unwrap();
    assert_same(
        &*active(&disk, &[KEY]).unwrap(),
        &folder.at("seed.raw"),
        "no payload",
    );
    // A header of LUKS2, which cryptsetup makes, is none that a disk image has.
    let luks2 = folder.name("luks2");
    std::fs::write(&luks2, vec![0; 2 << 20]).unwrap();
    run(
        "cryptsetup",
        &[
            "luksFormat",
            "-q",
            "--type",
            "luks2",
            "--luks2-metadata-size",
            "16k",
            "--luks2-keyslots-size",
            "512k",
            "--offset",
            "2048",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            "--key-file",
            &folder.name("key"),
            &luks2,
        ],
    );
    let mut bytes = sound.clone();
    let aligned = bytes.len().next_multiple_of(65536);
    bytes.resize(aligned, 0);
    bytes.extend(std::fs::read(&luks2).unwrap());
    put(&mut bytes, place, &be64(u64::try_from(aligned).unwrap()));
    put(&mut bytes, place + 8, &be64(2 << 20));
    std::fs::write(&disk, bytes).unwrap();
    refused(&disk, &[KEY], Unsupported, &["knows only LUKS1", "disk"]);
}

/// An image of noise alone has no right legacy key, as far as anybody can tell.
#[test]
fn legacy_keys_are_told_by_what_they_make_of_the_data() {
    let folder = Folder::new();
    let mut random = Random(9);
    let noise: Vec<u8> = (0..1 << 17)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    std::fs::write(folder.at("seed.raw"), &noise).unwrap();
    let aes = "encrypt.format=aes,encrypt.key-secret=key";
    let disk = folder.convert("qcow2", aes, "noise");
    refused(&disk, &[KEY], Unsupported, &["AES", "does not open it"]);
    // One sector that makes sense is enough.
    let mut some = noise.clone();
    some[1024..1536].fill(b'x');
    std::fs::write(folder.at("seed.raw"), &some).unwrap();
    let disk = folder.convert("qcow2", aes, "some");
    assert_same(
        &*active(&disk, &[OTHER, KEY]).unwrap(),
        &folder.at("seed.raw"),
        "some",
    );
    refused(&disk, &[OTHER], Unsupported, &["does not open it"]);
    // An empty disk is the same under any key.
    let (empty, size) = (folder.name("empty"), SIZE.to_string());
    folder.qemu(
        "qemu-img",
        "create",
        &["-q", "-f", "qcow2", "-o", aes, &empty, &size],
    );
    let source = active(Path::new(&empty), &[OTHER]).unwrap();
    assert_eq!(source.next_data(0).unwrap(), None);
    refused(
        Path::new(&empty),
        &[],
        Unsupported,
        &["AES", "no key was given"],
    );
}

#[test]
fn mutated_images_never_panic() {
    let folder = Folder::new();
    let runs: u32 = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(120, |runs| runs.parse().unwrap());
    let mut random = Random(0x1_0c52);
    for (format, options) in [
        ("qcow2", LUKS),
        ("qcow2", AES),
        ("qcow", "encrypt.key-secret=key,encrypt.format=aes"),
    ] {
        let disk = match options {
            LUKS => folder.luks("disk"),
            _ => folder.convert(format, options, "disk"),
        };
        let sound = std::fs::read(&disk).unwrap();
        let luks = options.contains("luks").then(|| luks_header(&sound));
        let header = luks.map_or(0, |place| header_at(&sound, place));
        let mut opened = 0;
        for _ in 0..runs {
            let mut bytes = sound.clone();
            for _ in 0..=random.below(3) {
                let within = match luks {
                    // The extension, and the LUKS header but for what makes it slow.
                    Some(place) if random.below(2) == 0 => {
                        place - 8 + usize::try_from(random.below(24)).unwrap()
                    }
                    Some(_) => {
                        let at = [0, 8, 40, 72, 104, 108, 112, 208, 216, 248, 252];
                        let at = at[usize::try_from(random.below(11)).unwrap()];
                        header + at + usize::try_from(random.below(4)).unwrap()
                    }
                    None => usize::try_from(random.below(256)).unwrap(),
                };
                bytes[within] = random.next().to_le_bytes()[0];
            }
            std::fs::write(&disk, &bytes).unwrap();
            let Ok(image) = open(&disk, &[KEY]) else {
                continue;
            };
            if let Ok(source) = image.open_point(ACTIVE) {
                let len = usize::try_from(source.len().min(9_000)).unwrap();
                opened += u32::from(source.read_exact_at(0, &mut vec![0; len]).is_ok());
            }
        }
        assert!(opened > 0, "{options}: none of {runs} opened");
    }
}
