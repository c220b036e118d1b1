//! Byte for byte against QEMU's own tools: every image they make is read as they read it.
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

use dormouse_block::digest_of;
use dormouse_disk::{ACTIVE, Image, PointKind};
use oracle::{assert_same, image, open, run, scatter, seed_raw};

fn assert_active(image: &dyn Image, raw: &Path, what: &str) {
    assert_same(&*image.open_point(ACTIVE).unwrap(), raw, what);
}

#[test]
fn every_cluster_size_version_and_compression_reads_as_qemu_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("seed.raw");
    seed_raw(&seed, 9 << 20, 1);
    for cluster in [512, 1024, 4096, 65536, 262_144, 2_097_152] {
        for options in [
            "compat=0.10",
            "compat=1.1",
            "compat=1.1,refcount_bits=1",
            "compat=1.1,lazy_refcounts=on",
        ] {
            for compress in [None, Some("zlib"), Some("zstd")] {
                if compress == Some("zstd") && options.contains("0.10") {
                    continue;
                }
                let out = dir.path().join("out.qcow2");
                let mut all = format!("{options},cluster_size={cluster}");
                let mut args = vec!["convert", "-O", "qcow2"];
                if let Some(kind) = compress {
                    args.push("-c");
                    if !options.contains("0.10") {
                        all.push_str(&format!(",compression_type={kind}"));
                    }
                }
                args.extend(["-o", &all, seed.to_str().unwrap(), out.to_str().unwrap()]);
                run("qemu-img", &args);
                let what = format!("{all} {compress:?}");
                assert_active(&*image(&out), &seed, &what);
            }
        }
    }
}

#[test]
fn scattered_writes_zeroes_and_discards_read_as_qemu_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("out.raw");
    for (round, options) in [
        "cluster_size=512",
        "cluster_size=64k",
        "cluster_size=2M",
        "compat=0.10",
        "preallocation=metadata",
        "preallocation=falloc",
        "preallocation=full,cluster_size=4k",
    ]
    .into_iter()
    .enumerate()
    {
        let disk = dir.path().join(format!("{round}.qcow2"));
        // A size that ends within a cluster.
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                options,
                disk.to_str().unwrap(),
                "21234688",
            ],
        );
        scatter(&disk, 21_234_688, 60, u64::try_from(round).unwrap() + 3);
        run(
            "qemu-img",
            &[
                "convert",
                "-O",
                "raw",
                disk.to_str().unwrap(),
                raw.to_str().unwrap(),
            ],
        );
        assert_active(&*image(&disk), &raw, options);
    }
}

#[test]
fn chains_read_through_and_past_the_end_of_a_smaller_base() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.raw");
    seed_raw(&base, 5 << 20, 2);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let create = |from: &str, format: &str, to: &str, size: &str| {
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-b",
                from,
                "-F",
                format,
                &at(to),
                size,
            ],
        );
    };
    create("base.raw", "raw", "a.qcow2", "8M");
    scatter(&dir.path().join("a.qcow2"), 8 << 20, 20, 11);
    create("a.qcow2", "qcow2", "b.qcow2", "12M");
    scatter(&dir.path().join("b.qcow2"), 12 << 20, 20, 12);
    // Smaller than what is below it.
    create(&at("b.qcow2"), "qcow2", "c.qcow2", "3M");
    scatter(&dir.path().join("c.qcow2"), 3 << 20, 5, 13);
    for name in ["a.qcow2", "b.qcow2", "c.qcow2"] {
        let raw = dir.path().join("out.raw");
        run(
            "qemu-img",
            &["convert", "-O", "raw", &at(name), raw.to_str().unwrap()],
        );
        let opened = image(&dir.path().join(name));
        assert_active(&*opened, &raw, name);
    }
    let opened = image(&dir.path().join("c.qcow2"));
    let names: Vec<_> = opened
        .files()
        .iter()
        .map(|file| file.path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["c.qcow2", "b.qcow2", "a.qcow2", "base.raw"]);
    let json = serde_json::to_string(opened.files()).unwrap();
    let back: Vec<dormouse_disk::ChainFile> = serde_json::from_str(&json).unwrap();
    assert_eq!(back, opened.files());
}

#[test]
fn an_unnamed_backing_format_is_probed_and_a_disguised_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    seed_raw(&dir.path().join("base.raw"), 1 << 20, 3);
    let raw = dir.path().join("out.raw");
    for base in ["base.raw", "base.qcow2", "base.img"] {
        if base != "base.raw" {
            run(
                "qemu-img",
                &["convert", "-O", "qcow2", &at("base.raw"), &at(base)],
            );
        }
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-u",
                "-f",
                "qcow2",
                "-b",
                base,
                "-F",
                "raw",
                &at("top.qcow2"),
                "1M",
            ],
        );
        // As old images are: without the extension that names the backing format.
        let mut bytes = std::fs::read(at("top.qcow2")).unwrap();
        let extension = [0xe2, 0x79, 0x2a, 0xca];
        let place = bytes.windows(4).position(|part| part == extension).unwrap();
        bytes[place..place + 4].copy_from_slice(&[0x7f; 4]);
        std::fs::write(at("top.qcow2"), bytes).unwrap();
        if base == "base.img" {
            // The header of another format under the name of a raw disk: what a guest would write.
            let error = open(&dir.path().join("top.qcow2"), None).err().unwrap();
            assert_eq!(error.kind(), dormouse_block::ErrorKind::Denied, "{error}");
            assert!(error.to_string().contains("base.img"), "{error}");
            continue;
        }
        run(
            "qemu-img",
            &[
                "convert",
                "-O",
                "raw",
                &at("top.qcow2"),
                raw.to_str().unwrap(),
            ],
        );
        assert_active(&*image(&dir.path().join("top.qcow2")), &raw, base);
    }
}

#[test]
fn internal_snapshots_are_restore_points_that_read_as_qemu_applies_them() {
    let dir = tempfile::tempdir().unwrap();
    for options in [
        "compat=1.1",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=2M",
    ] {
        let disk = dir.path().join("disk.qcow2");
        let disk_name = disk.to_str().unwrap();
        run(
            "qemu-img",
            &[
                "create", "-q", "-f", "qcow2", "-o", options, disk_name, "12M",
            ],
        );
        for round in 0..3 {
            scatter(&disk, 12 << 20, 12, 40 + round);
            run(
                "qemu-img",
                &["snapshot", "-c", &format!("level {round}"), disk_name],
            );
        }
        if options != "compat=0.10" {
            // A point of another size.
            run("qemu-img", &["resize", "-q", disk_name, "20M"]);
            scatter(&disk, 20 << 20, 12, 50);
            run("qemu-img", &["snapshot", "-c", "larger", disk_name]);
        }
        scatter(&disk, 12 << 20, 12, 51);
        let opened = image(&disk);
        let raw = dir.path().join("out.raw");
        run(
            "qemu-img",
            &["convert", "-O", "raw", disk_name, raw.to_str().unwrap()],
        );
        assert_active(&*opened, &raw, options);
        assert!(opened.points().len() >= 4);
        for point in opened
            .points()
            .iter()
            .filter(|point| point.kind == PointKind::InternalSnapshot)
        {
            assert_eq!(point.memory, None);
            assert!(point.created.is_some());
            // QEMU's own way to the same bytes: apply the snapshot to a copy.
            let copy = dir.path().join("copy.qcow2");
            std::fs::copy(&disk, &copy).unwrap();
            let copy = copy.to_str().unwrap();
            run("qemu-img", &["snapshot", "-a", &point.name, copy]);
            run(
                "qemu-img",
                &["convert", "-O", "raw", copy, raw.to_str().unwrap()],
            );
            let source = opened.open_point(&point.id).unwrap();
            assert_eq!(source.len(), std::fs::metadata(&raw).unwrap().len());
            assert_same(&*source, &raw, &format!("{options} {}", point.name));
            assert!(opened.memory(&point.id).unwrap().is_none());
            assert_eq!(opened.point(&point.name).unwrap(), point);
        }
        assert!(opened.point("level 9").is_err());
    }
}

#[test]
fn saved_memory_is_found_and_is_the_stream_that_qemu_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "64M"],
    );
    run(
        "qemu-io",
        &["-c", "write -P 7 0 3M", disk.to_str().unwrap()],
    );
    oracle::savevm(&disk, "suspended");
    run(
        "qemu-io",
        &["-c", "write -P 9 1M 3M", disk.to_str().unwrap()],
    );
    run(
        "qemu-img",
        &["snapshot", "-c", "cold", disk.to_str().unwrap()],
    );
    let opened = image(&disk);
    let suspended = opened.point("suspended").unwrap();
    let memory = opened.memory(&suspended.id).unwrap().unwrap();
    assert_eq!(Some(memory.len()), suspended.memory);
    let listed = run(
        "qemu-img",
        &["info", "--output=json", disk.to_str().unwrap()],
    );
    assert!(
        listed.contains(&format!("\"vm-state-size\": {}", memory.len())),
        "{listed}"
    );
    let mut head = [0; 8];
    memory.read_exact_at(0, &mut head).unwrap();
    assert_eq!(&head, b"QEVM\0\0\0\x03");
    // All of it is there, not only its beginning.
    assert!(digest_of(&*memory).is_ok());
    let mut bytes = vec![0; usize::try_from(memory.len()).unwrap()];
    memory.read_exact_at(0, &mut bytes).unwrap();
    assert!(bytes.windows(6).any(|part| part == b"pc.ram"));
    let disk_then = opened.open_point(&suspended.id).unwrap();
    let mut byte = [0];
    disk_then.read_exact_at(2 << 20, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    assert_eq!(opened.point("cold").unwrap().memory, None);
    assert!(opened.memory(ACTIVE).unwrap().is_none());
}

#[test]
fn a_cut_file_is_corrupt_where_it_was_cut_and_readable_before() {
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("seed.raw");
    seed_raw(&seed, 8 << 20, 5);
    let disk = dir.path().join("disk.qcow2");
    run(
        "qemu-img",
        &[
            "convert",
            "-O",
            "qcow2",
            seed.to_str().unwrap(),
            disk.to_str().unwrap(),
        ],
    );
    let len = std::fs::metadata(&disk).unwrap().len();
    std::fs::File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(len / 2)
        .unwrap();
    let opened = image(&disk);
    let source = opened.open_point(ACTIVE).unwrap();
    let mut whole = vec![0; 8 << 20];
    let error = source.read_exact_at(0, &mut whole).unwrap_err();
    assert_eq!(error.kind(), dormouse_block::ErrorKind::Corrupt, "{error}");
    assert!(
        error.to_string().contains("beyond the end of the file"),
        "{error}"
    );
    let mut first = vec![0; 4096];
    source.read_exact_at(0, &mut first).unwrap();
    assert_eq!(first, std::fs::read(&seed).unwrap()[..4096]);
}

#[test]
fn reading_everything_leaves_every_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    seed_raw(&dir.path().join("base.raw"), 4 << 20, 6);
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            "base.raw",
            "-F",
            "raw",
            &at("top.qcow2"),
        ],
    );
    scatter(&dir.path().join("top.qcow2"), 4 << 20, 9, 60);
    run("qemu-img", &["snapshot", "-c", "one", &at("top.qcow2")]);
    let sums = |()| ["base.raw", "top.qcow2"].map(|name| std::fs::read(at(name)).unwrap());
    let before = sums(());
    let opened = image(&dir.path().join("top.qcow2"));
    for point in opened.points() {
        digest_of(&*opened.open_point(&point.id).unwrap()).unwrap();
    }
    let _lock = opened.chain().lock().unwrap();
    assert!(before == sums(()));
    assert_eq!(opened.chain().changed().unwrap(), None);
    // Whoever writes below us meanwhile is noticed.
    std::fs::write(at("base.raw"), vec![0; 4 << 20]).unwrap();
    let changed = opened.chain().changed().unwrap();
    assert_eq!(changed.unwrap().file_name().unwrap(), "base.raw");
}

#[test]
fn a_running_owner_is_seen_and_our_lock_keeps_a_writer_away() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "1M"],
    );
    let opened = image(&disk);
    assert_eq!(opened.chain().owner().unwrap(), None);
    {
        let _running = oracle::hold_open(&disk, false);
        let owner = opened.chain().owner().unwrap().expect("qemu-io holds it");
        assert_eq!(owner.path, disk);
        let error = opened.chain().lock().unwrap_err();
        assert_eq!(error.kind(), dormouse_block::ErrorKind::Denied);
    }
    {
        let _reader = oracle::hold_open(&disk, true);
        assert_eq!(opened.chain().owner().unwrap(), None);
    }
    let lock = opened.chain().lock().unwrap();
    let refused = oracle::output("qemu-io", &["-c", "write 0 4k", disk.to_str().unwrap()]);
    assert!(!refused.status.success(), "a writer got in beside our lock");
    // Other readers are not in the way, and our own second lock neither.
    run("qemu-img", &["info", disk.to_str().unwrap()]);
    let _second: Vec<_> = image(&disk).chain().lock().unwrap();
    drop((lock, _second));
    drop(opened);
    run("qemu-io", &["-c", "write 0 4k", disk.to_str().unwrap()]);
}
