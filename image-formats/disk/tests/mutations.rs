//! Images changed at random: none makes the reader panic or hang, and what it refuses QEMU refuses too.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests write files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod oracle;

use std::path::Path;

use dormouse_disk::FormatName;
use oracle::{Random, open, output, run, scatter, seed_raw};

/// Opens whatever `bytes` are and reads here and there; only panics and hangs are failures.
fn exercise(path: &Path, format: FormatName, random: &mut Random) -> bool {
    let Ok(opened) = open(path, Some(format)) else {
        return false;
    };
    for point in opened.points() {
        for source in [
            opened.open_point(&point.id).ok(),
            opened.memory(&point.id).ok().flatten(),
        ]
        .into_iter()
        .flatten()
        {
            let mut buf = vec![0; 200_000];
            for _ in 0..6 {
                let at = random.below(source.len());
                let left = usize::try_from(source.len() - at)
                    .unwrap_or(usize::MAX)
                    .min(buf.len());
                let _ = source.read_exact_at(at, &mut buf[..left]);
            }
            let mut at = 0;
            for _ in 0..50 {
                match source.next_data(at) {
                    Ok(Some(range)) => {
                        assert!(
                            range.start >= at
                                && range.end > range.start
                                && range.end <= source.len()
                        );
                        at = range.end;
                    }
                    _ => break,
                }
            }
        }
    }
    true
}

/// Changes a few bytes where structures are: at the beginning of clusters.
fn mutate(bytes: &mut Vec<u8>, cluster: usize, random: &mut Random) {
    const VALUES: [u8; 8] = [0, 1, 2, 0x40, 0x7f, 0x80, 0xfe, 0xff];
    let pick = |random: &mut Random, bound: usize| {
        usize::try_from(random.below(u64::try_from(bound).unwrap())).unwrap()
    };
    for _ in 0..=random.below(4) {
        let start = match random.below(3) {
            0 => 0,
            _ => pick(random, bytes.len() / cluster + 1) * cluster,
        };
        let at = start + pick(random, 160);
        let value = match random.below(2) {
            0 => VALUES[pick(random, VALUES.len())],
            _ => random.next().to_le_bytes()[0],
        };
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
    }
    if random.below(40) == 0 {
        let len = pick(random, bytes.len());
        bytes.truncate(len);
    }
}

/// Mutated images, a fixed number of them: `DORMOUSE_FUZZ_RUNS` makes it more.
#[test]
fn mutated_images_never_panic_and_never_hang() {
    let folder = tempfile::tempdir().unwrap();
    let runs = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(2500, |runs| runs.parse().unwrap());
    let seed = folder.path().join("seed.raw");
    seed_raw(&seed, 3 << 20, 4);
    let mut seeds = Vec::new();
    for (name, cluster, options) in [
        ("plain", 65536, "cluster_size=64k"),
        ("small", 512, "cluster_size=512"),
        ("old", 4096, "compat=0.10,cluster_size=4k"),
        ("zlib", 65536, "-c"),
        ("zstd", 65536, "compression_type=zstd"),
    ] {
        let path = folder.path().join(name).to_str().unwrap().to_owned();
        if name.starts_with('z') {
            let kind = format!("compression_type={name}");
            run(
                "qemu-img",
                &[
                    "convert",
                    "-c",
                    "-O",
                    "qcow2",
                    "-o",
                    &kind,
                    seed.to_str().unwrap(),
                    &path,
                ],
            );
        } else {
            run(
                "qemu-img",
                &["create", "-q", "-f", "qcow2", "-o", options, &path, "3M"],
            );
            scatter(Path::new(&path), 3 << 20, 8, 3);
        }
        run("qemu-img", &["snapshot", "-c", "one", &path]);
        if name == "plain" {
            oracle::savevm(Path::new(&path), "asleep");
        }
        seeds.push((std::fs::read(&path).unwrap(), cluster));
    }
    let mut random = Random(0x00d0_4301);
    let mut opened = 0;
    let victim = folder.path().join("victim");
    for run in 0..runs {
        let (bytes, cluster) = &seeds[run % seeds.len()];
        let mut bytes = bytes.clone();
        mutate(&mut bytes, *cluster, &mut random);
        std::fs::write(&victim, &bytes).unwrap();
        opened += u64::from(exercise(&victim, FormatName::QCOW2, &mut random));
    }
    // Mutations that only ever break the header would test nothing behind it.
    assert!(
        opened > u64::try_from(runs).unwrap() / 4,
        "only {opened} of {runs} were opened"
    );
}

/// The same for every other format, as QEMU writes it.
#[test]
fn mutated_images_of_other_formats_never_panic_and_never_hang() {
    let folder = tempfile::tempdir().unwrap();
    let runs = std::env::var("DORMOUSE_FUZZ_RUNS").map_or(300, |runs| runs.parse().unwrap());
    let seed = folder.path().join("seed.raw");
    seed_raw(&seed, 3 << 20, 4);
    let mut random = Random(0x00d0_4302);
    for (name, qemu, options, grid) in [
        ("a.vmdk", "vmdk", "subformat=monolithicSparse", 512),
        ("b.vmdk", "vmdk", "subformat=streamOptimized", 512),
        ("a.vhd", "vpc", "subformat=dynamic,force_size=on", 512),
        ("b.vhd", "vpc", "subformat=fixed,force_size=on", 512),
        ("a.vhdx", "vhdx", "block_size=1M", 65536),
        ("a.vdi", "vdi", "static=off", 512),
        ("a.qcow", "qcow", "size=3M", 4096),
        ("a.qed", "qed", "cluster_size=16k,table_size=4", 4096),
        ("a.hds", "parallels", "cluster_size=64k", 512),
    ] {
        let path = folder.path().join(name);
        run(
            "qemu-img",
            &[
                "convert",
                "-O",
                qemu,
                "-o",
                options,
                seed.to_str().unwrap(),
                path.to_str().unwrap(),
            ],
        );
        let sound = std::fs::read(&path).unwrap();
        let format = FormatName::parse(qemu).unwrap();
        let mut opened = 0;
        for _ in 0..runs {
            let mut bytes = sound.clone();
            mutate(&mut bytes, grid, &mut random);
            std::fs::write(&path, &bytes).unwrap();
            opened += u64::from(exercise(&path, format, &mut random));
        }
        assert!(opened > 0, "{name}: none of {runs} was opened");
    }
}

#[test]
fn qemu_agrees_on_what_cannot_be_opened() {
    // The other way round: what we refuse as broken, QEMU refuses too, so that we do not refuse sound images.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", path.to_str().unwrap(), "4M"],
    );
    run(
        "qemu-io",
        &["-c", "write -P 5 0 1M", path.to_str().unwrap()],
    );
    let sound = std::fs::read(&path).unwrap();
    let mut random = Random(77);
    let mut both = 0;
    for _ in 0..150 {
        let mut bytes = sound.clone();
        let at = usize::try_from(random.below(112)).unwrap();
        bytes[at] ^= 1 << random.below(8);
        std::fs::write(&path, &bytes).unwrap();
        let ours = open(&path, Some(FormatName::QCOW2));
        let theirs = output(
            "qemu-img",
            &["info", "-U", "-f", "qcow2", path.to_str().unwrap()],
        );
        if let Err(error) = ours {
            assert!(
                !theirs.status.success() || excused(&error.to_string()),
                "byte {at}: {error}"
            );
            both += 1;
        }
    }
    assert!(both > 20, "{both}");
}

/// Where we are stricter than `qemu-img info`, knowingly: it opens images with parts that this version does not read,
/// does not look where the backing file is, and takes what lies beyond the end of the file for zeroes.
fn excused(error: &str) -> bool {
    [
        "beyond the end of the file",
        "external data file",
        "subclusters",
        "LUKS",
        "AES",
        "marked corrupt",
        "allowed folders",
        "is impossible",
        "protocol",
        "cannot be found",
    ]
    .iter()
    .any(|word| error.contains(word))
}
