//! LUKS against cryptsetup with the kernel's dm-crypt, against QEMU's own driver, and cryptsetup's own images.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

mod kernel;
#[path = "../../disk/tests/oracle/mod.rs"]
mod oracle;

use std::path::Path;
use std::sync::Arc;

use dormouse_block::{Bytes, ErrorKind, Source as _, digest_of};
use dormouse_volume::{DiskInput, Keys, VolumeMap, volumes_with_keys};
use kernel::{Kernel, sums};
use oracle::{fixtures, output, run};
use sha2::Digest as _;

const MIB: u64 = 1 << 20;

fn map_of(bytes: Vec<u8>, keys: &[&[u8]]) -> VolumeMap {
    let keys = Keys::new(keys.iter().map(|key| key.to_vec())).unwrap();
    volumes_with_keys(
        &[DiskInput::new("disk0", Arc::new(Bytes::new(bytes)))],
        &keys,
    )
}

/// Each disk another cipher, digest, derivation and sector size.
const VOLUMES: &str = r#"
load cbc xts lrw essiv sha512_generic wp512 rmd160 serpent_generic twofish_generic algif_skcipher algif_hash dm-mod dm-crypt
export DM_DISABLE_UDEV=1
printf 'open sesame' > /tmp/key
head -c 5000 /dev/zero | tr '\0' k > /tmp/keyfile
make() { disk=$1; key=$2; shift 2
  cryptsetup luksFormat -q --key-file $key --pbkdf-force-iterations ${iterations:-1000} "$@" /dev/ubd$disk >/tmp/err 2>&1 || { echo $disk; cat /tmp/err; exit 9; }
  cryptsetup open --key-file $key /dev/ubd$disk plain$disk || exit 8
  fill /dev/mapper/plain$disk $disk; sum disk$disk /dev/mapper/plain$disk; cryptsetup close plain$disk; }
two="--type luks2 --luks2-metadata-size 16k --luks2-keyslots-size 512k --offset 2048"
make a /tmp/key --type luks1 --cipher aes-xts-plain64 --key-size 512 --hash sha256
make b /tmp/keyfile --type luks1 --cipher aes-cbc-essiv:sha256 --key-size 256 --hash ripemd160
make c /tmp/key $two --pbkdf pbkdf2 --hash sha512 --cipher serpent-xts-plain64 --key-size 512
make d /tmp/key $two --pbkdf pbkdf2 --hash sha1 --cipher twofish-cbc-plain64 --key-size 192 --sector-size 2048
iterations=4
make e /tmp/key $two --pbkdf argon2id --pbkdf-memory 2048 --pbkdf-parallel 2 --sector-size 4096
make f /tmp/keyfile $two --pbkdf argon2i --pbkdf-memory 1024 --pbkdf-parallel 1 --cipher aes-cbc-plain64be --key-size 128
iterations=1000
make g /tmp/key $two --pbkdf pbkdf2 --cipher aes-lrw-benbi --key-size 384
"#;

#[test]
fn every_volume_is_what_the_kernel_decrypts() {
    let kernel = Kernel::new(&[
        3 * MIB,
        3 * MIB,
        2 * MIB,
        2 * MIB,
        2 * MIB,
        2 * MIB,
        2 * MIB,
    ]);
    let expected = kernel.run(VOLUMES);
    assert_eq!(expected.len(), 7);
    // A passphrase file may end in a newline; a key file counts byte by byte.
    let keys = Keys::new([b"open sesame\n".to_vec(), vec![b'k'; 5000]]).unwrap();
    let map = kernel.volumes_with(|_| true, &keys);
    assert!(map.gaps.is_empty(), "{:#?}", map.gaps);
    for (name, sum) in &expected {
        let number = name.bytes().last().unwrap() - b'a';
        assert_eq!(sums(&map)[&format!("disk{number}/luks")], *sum, "{name}");
    }
    // Without a key, and with a wrong one, each volume says so by itself.
    for (keys, why) in [
        (vec![], "and no key was given"),
        (
            vec![b"wrong".to_vec()],
            "the key that was given does not open it",
        ),
        (
            vec![b"wrong".to_vec(), b"too".to_vec()],
            "none of the 2 keys opens it",
        ),
    ] {
        let map = kernel.volumes_with(|number| number > 3, &Keys::new(keys).unwrap());
        assert_eq!(map.gaps.len(), 3, "{:#?}", map.gaps);
        for gap in &map.gaps {
            assert!(gap.why.ends_with(why) && gap.why.contains("LUKS2"), "{gap}");
            assert!(gap.may_hide_packages);
            assert!(gap.at.volume.as_ref().unwrap().starts_with("disk"));
        }
        assert_eq!(map.volumes.len(), 3);
    }
    // The second copy of a LUKS2 header stands in for the first, and a broken pair is an error.
    let mut bytes = std::fs::read(&kernel.disks[2]).unwrap();
    bytes[5000] ^= 1;
    let map = map_of(bytes.clone(), &[b"open sesame"]);
    assert_eq!(sums(&map)["disk0/luks"], expected["diskc"]);
    assert!(map.notes[0].what.contains("first copy"), "{:?}", map.notes);
    bytes[..8].fill(0);
    let map = map_of(bytes.clone(), &[b"open sesame"]);
    assert_eq!(sums(&map)["disk0/luks"], expected["diskc"]);
    bytes[0x4000 + 5000] ^= 1;
    let map = map_of(bytes, &[b"open sesame"]);
    assert_eq!(map.gaps[0].kind, ErrorKind::Corrupt);
    mutated_headers_never_panic(&kernel);
}

/// A right checksum over both copies of a LUKS2 header.
fn seal(bytes: &mut [u8]) {
    for at in [0, 0x4000] {
        bytes[at + 448..at + 512].fill(0);
        let sum = sha2::Sha256::digest(&bytes[at..at + 0x4000]);
        bytes[at + 448..at + 480].copy_from_slice(&sum);
    }
}

fn mutated_headers_never_panic(kernel: &Kernel) {
    let runs: u64 = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(300, |runs| runs.parse().unwrap());
    let mut random = oracle::Random(0x10c5);
    for disk in [0, 2, 4] {
        let mut sound = std::fs::read(&kernel.disks[disk]).unwrap();
        sound.truncate(1 << 20);
        let second = disk > 0;
        // Numbers of the derivation stay, so that each run costs the same.
        let text = String::from_utf8_lossy(&sound[4096..0x4000]).into_owned();
        let costs: Vec<&str> = text
            .split('"')
            .filter(|part| part.starts_with(':') && part.len() > 2)
            .collect();
        for run in 0..runs {
            let mut bytes = sound.clone();
            for _ in 0..=random.below(3) {
                let at = if second {
                    4096 + random.below(2200)
                } else {
                    random.below(592)
                };
                bytes[usize::try_from(at).unwrap()] = random.next().to_le_bytes()[0];
            }
            if second {
                let copy = bytes[4096..0x4000].to_vec();
                bytes[0x5000..0x8000].copy_from_slice(&copy);
                seal(&mut bytes);
            }
            let now = String::from_utf8_lossy(&bytes[4096..0x4000]).into_owned();
            let cheap = second && costs.iter().all(|cost| now.contains(cost));
            let keys: &[&[u8]] = if cheap && run % 40 == 0 {
                &[b"open sesame"]
            } else {
                &[]
            };
            let map = map_of(bytes, keys);
            assert!(map.volumes.len() + map.gaps.len() > 0);
            for volume in &map.volumes {
                let mut buf = [0; 512];
                let _ = volume.source.read_exact_at(0, &mut buf);
            }
        }
    }
}

#[test]
fn qemu_reads_the_same_from_luks1() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    let key = dir.path().join("key");
    let mut random = oracle::Random(7);
    let bytes: Vec<u8> = (0..1 << 17)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    std::fs::write(&plain, &bytes).unwrap();
    std::fs::write(&key, "open sesame").unwrap();
    for (name, options) in [
        (
            "xts",
            "cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha512",
        ),
        (
            "essiv",
            "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1",
        ),
        (
            "serpent",
            "cipher-alg=serpent-256,cipher-mode=xts,ivgen-alg=plain,hash-alg=sha256",
        ),
        (
            "twofish",
            "cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=plain64,hash-alg=ripemd160",
        ),
    ] {
        let image = dir.path().join(name);
        run(
            "qemu-img",
            &[
                "convert",
                "-q",
                "-O",
                "luks",
                "--object",
                &format!("secret,id=key,file={}", key.display()),
                "-o",
                &format!("key-secret=key,iter-time=10,{options}"),
                plain.to_str().unwrap(),
                image.to_str().unwrap(),
            ],
        );
        let map = map_of(std::fs::read(&image).unwrap(), &[b"open sesame"]);
        assert!(map.gaps.is_empty(), "{name}: {:#?}", map.gaps);
        let inside = map
            .volumes
            .iter()
            .find(|volume| volume.info.system == "luks")
            .unwrap();
        let expected = digest_of(&Bytes::new(bytes.clone())).unwrap();
        assert_eq!(digest_of(&*inside.source).unwrap(), expected, "{name}");
        assert_eq!(inside.info.layout.as_deref(), Some("LUKS1"));
    }
}

fn unpacked(path: &Path) -> Vec<u8> {
    let out = output("xz", &["-dc", path.to_str().unwrap()]);
    assert!(out.status.success());
    out.stdout
}

#[test]
fn the_images_of_cryptsetup_open() {
    let folder = fixtures().join("luks/cryptsetup");
    for name in ["compatimage", "compatimage2", "compatv10image"] {
        let bytes = unpacked(&folder.join(format!("{name}.img.xz")));
        let map = map_of(bytes.clone(), &[b"compatkey\n"]);
        let opened = map
            .volumes
            .iter()
            .any(|volume| volume.info.system == "luks");
        assert!(opened, "{name}: {:#?}", map.gaps);
        let map = map_of(bytes, &[b"another"]);
        assert_eq!(map.gaps.len(), 1, "{name}");
        assert!(
            map.gaps[0].why.contains("does not open it"),
            "{name}: {}",
            map.gaps[0]
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let archive = folder.join("luks1-images.tar.xz");
    run(
        "tar",
        &[
            "-C",
            dir.path().to_str().unwrap(),
            "-xf",
            archive.to_str().unwrap(),
        ],
    );
    let set = dir.path().join("luks1-images");
    let key = std::fs::read(set.join("keyfile1")).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(&set).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|name| name == "img") {
            let map = map_of(std::fs::read(&path).unwrap(), &[&key]);
            let opened = map
                .volumes
                .iter()
                .any(|volume| volume.info.system == "luks");
            assert!(
                opened && map.gaps.is_empty(),
                "{}: {:#?}",
                path.display(),
                map.gaps
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 12);
}
