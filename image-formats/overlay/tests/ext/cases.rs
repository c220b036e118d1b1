//! Cases that random operations rarely meet: full filesystems, huge directories, fragments, dirty journals, orphans.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use dormouse_block::ErrorKind;
use dormouse_filesystem::NodeKind;
use dormouse_overlay::Editor;
use dormouse_overlay::ext::{Ext4Editor, Options};

use crate::device::FileDevice;
use crate::model::{Model, NOW, Node, Random, attributes, digest, make, open, path};
use crate::oracle::{self, KernelMount, check_with_kernel, must, run};

fn model(image: &Path) -> Model {
    let mut model = Model::of(&oracle::walk(&*oracle::open(image)).unwrap());
    for node in model
        .nodes
        .iter_mut()
        .filter(|node| node.kind == NodeKind::Directory)
    {
        node.timed = false;
    }
    model
}

fn file(bytes: &[u8]) -> Node {
    Node {
        kind: NodeKind::File,
        attributes: attributes(0o644),
        timed: true,
        size: bytes.len() as u64,
        digest: Some(digest(bytes)),
        target: None,
        device: None,
    }
}

fn directory() -> Node {
    Node {
        kind: NodeKind::Directory,
        attributes: attributes(0o755),
        size: 0,
        digest: None,
        ..file(b"")
    }
}

#[test]
fn a_directory_of_twenty_thousand_names_is_hashed_and_the_kernel_finds_each() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, count) in [
        ("4k", "-t ext4 -b 4096", 20_000),
        ("1k", "-t ext4 -b 1024", 9000),
        ("large-dir", "-t ext4 -b 1024 -O large_dir", 5000),
        ("ext3", "-t ext3 -b 1024", 5000),
    ] {
        let image = make(
            folder.path(),
            name,
            &format!("{options} -N 60000"),
            200,
            None,
        );
        let mut model = model(&image);
        let mut editor = open(&image);
        let started = Instant::now();
        editor
            .make_directory(&path("/big"), &attributes(0o755))
            .unwrap();
        model.add("/big", directory());
        for n in 0..count {
            let name = format!("/big/a name with number {n}");
            editor
                .put_file(&path(&name), &attributes(0o644), 0, &mut &b""[..])
                .unwrap();
            model.add(&name, file(b""));
        }
        editor.finish().unwrap();
        println!("{name}: {count} entries in {:?}", started.elapsed());
        let manifest = model.check(&image, name);
        let text = must("debugfs", &["-R", "stat /big", image.to_str().unwrap()]);
        assert!(
            text.contains("0x81000") || text.contains("Flags: 0x1000"),
            "{name} is not hashed: {text}"
        );
        println!(
            "{name}: equal to the kernel's mount: {}",
            check_with_kernel(&image, &manifest)
        );
        let big = model.names["/big"];
        model.nodes[big].timed = false;
        // Once more in place: a hashed directory on disk gains and loses names.
        let mut editor = open(&image);
        for n in 0..400 {
            let name = format!("/big/later-{n}");
            editor
                .put_file(&path(&name), &attributes(0o644), 0, &mut &b""[..])
                .unwrap();
            model.add(&name, file(b""));
            let gone = format!("/big/a name with number {}", n * 7);
            editor.remove(&path(&gone)).unwrap();
            model.names.remove(&gone);
        }
        editor.finish().unwrap();
        let manifest = model.check(&image, name);
        check_with_kernel(&image, &manifest);
        // And down to nothing.
        let mut editor = open(&image);
        for name in model.children("/big") {
            editor.remove(&path(&name)).unwrap();
            model.names.remove(&name);
        }
        editor.remove(&path("/big")).unwrap();
        model.names.remove("/big");
        editor.finish().unwrap();
        model.check(&image, name);
    }
}

#[test]
fn six_thousand_files_are_written_in_large_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "payload", "-t ext4", 1024, None);
    let mut model = model(&image);
    let mut random = Random(5);
    let pool = random.bytes(1 << 20);
    let mut editor = open(&image);
    let started = Instant::now();
    let mut written = 0;
    for n in 0..6000_usize {
        let directory_name = format!("/d{}", n / 40);
        if n % 40 == 0 {
            editor
                .make_directory(&path(&directory_name), &attributes(0o755))
                .unwrap();
            model.add(&directory_name, directory());
        }
        let bytes = &pool[..(n * 7919) % 81_000];
        let name = format!("{directory_name}/f{n}");
        editor
            .put_file(
                &path(&name),
                &attributes(0o644),
                bytes.len() as u64,
                &mut &*bytes,
            )
            .unwrap();
        written += bytes.len();
        model.add(
            &name,
            Node {
                digest: None,
                ..file(b"")
            },
        );
        model.nodes.last_mut().unwrap().size = bytes.len() as u64;
    }
    editor.finish().unwrap();
    println!("{written} bytes in 6,000 files in {:?}", started.elapsed());
    for node in model
        .nodes
        .iter_mut()
        .filter(|node| node.kind == NodeKind::File)
    {
        node.digest = Some(digest(&pool[..node.size as usize]));
    }
    model.check(&image, "payload");
    // Few extents: what is written one after the other lies so.
    let text = must("debugfs", &["-R", "stat /d7/f300", image.to_str().unwrap()]);
    assert!(text.matches("):").count() <= 2, "{text}");
}

#[test]
fn a_full_filesystem_is_a_limit_and_stays_sound() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("full", "-t ext4 -b 1024 -m 0"),
        ("full-4k", "-t ext4 -b 4096 -m 5"),
        ("full-ext2", "-t ext2 -b 1024"),
    ] {
        let image = make(folder.path(), name, &format!("{options} -N 3000"), 16, None);
        let mut model = model(&image);
        let mut editor = open(&image);
        let mut random = Random(9);
        let mut limits = 0;
        for n in 0..4000 {
            let len = random.below(20_000);
            let bytes = random.bytes(len);
            let name = format!("/f{n}");
            let size = len as u64;
            let done = if n % 2 == 0 {
                editor.put_file(&path(&name), &attributes(0o644), size, &mut &bytes[..])
            } else {
                // What is staged and cannot be put stays staged, and is freed at the end.
                editor.stage(size, &mut &bytes[..]).and_then(|staged| {
                    let done = editor.put_staged(&path(&name), &attributes(0o644), staged);
                    if done.is_err() {
                        let mut back = vec![0; len];
                        assert_eq!(editor.read_staged(staged, 0, &mut back).unwrap(), len);
                        assert_eq!(back, bytes);
                    }
                    done
                })
            };
            match done {
                Ok(()) => model.add(&name, file(&bytes)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
                    limits += 1;
                }
            }
            if n % 3 == 0 && n > 900 {
                let gone = format!("/f{}", n - 900);
                if model.names.remove(&gone).is_some() {
                    editor.remove(&path(&gone)).unwrap();
                }
            }
        }
        assert!(limits > 0, "{name} was never full");
        editor.finish().unwrap();
        model.check(&image, name);
    }
}

#[test]
fn when_no_inode_is_left_it_is_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "few", "-t ext4 -N 64", 16, None);
    let mut model = model(&image);
    let mut editor = open(&image);
    let free = editor.free_nodes();
    let mut made = 0;
    loop {
        let name = format!("/f{made}");
        match editor.put_file(&path(&name), &attributes(0o644), 3, &mut &b"abc"[..]) {
            Ok(()) => model.add(&name, file(b"abc")),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Limit);
                break;
            }
        }
        made += 1;
    }
    assert_eq!(made, free);
    assert_eq!(
        editor
            .make_directory(&path("/d"), &attributes(0o755))
            .unwrap_err()
            .kind(),
        ErrorKind::Limit
    );
    editor.finish().unwrap();
    model.check(&image, "few");
}

#[test]
fn a_file_in_hundreds_of_pieces_gets_a_deep_tree_and_gives_it_back() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("pieces", "-t ext4 -b 1024"),
        ("pieces-ext3", "-t ext3 -b 1024"),
    ] {
        let image = make(
            folder.path(),
            name,
            &format!("{options} -m 0 -N 12000"),
            16,
            None,
        );
        let mut model = model(&image);
        let mut editor = open(&image);
        let bytes = [b'x'; 1024];
        let mut count = 0;
        while editor.free_bytes() > 300_000 {
            let name = format!("/f{count}");
            editor
                .put_file(&path(&name), &attributes(0o644), 1024, &mut &bytes[..])
                .unwrap();
            model.add(&name, file(&bytes));
            count += 1;
        }
        for n in (0..count).step_by(2) {
            let name = format!("/f{n}");
            editor.remove(&path(&name)).unwrap();
            model.names.remove(&name);
        }
        let len = editor.free_bytes() as usize * 9 / 10;
        let content = Random(3).bytes(len);
        editor
            .put_file(
                &path("/pieces"),
                &attributes(0o600),
                len as u64,
                &mut &content[..],
            )
            .unwrap();
        model.add(
            "/pieces",
            Node {
                attributes: attributes(0o600),
                ..file(&content)
            },
        );
        editor.finish().unwrap();
        model.check(&image, name);
        let mut editor = open(&image);
        editor.remove(&path("/pieces")).unwrap();
        model.names.remove("/pieces");
        editor.finish().unwrap();
        model.check(&image, name);
    }
}

#[test]
fn content_of_another_length_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "short", "-t ext4", 32, None);
    let model = model(&image);
    let mut editor = open(&image);
    let free = (editor.free_bytes(), editor.free_nodes());
    for size in [99_999, 100_001] {
        let bytes = vec![1; 100_000];
        let error = editor
            .put_file(&path("/x"), &attributes(0o644), size, &mut &bytes[..])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    let staged = editor.stage(50, &mut std::io::repeat(7).take(50)).unwrap();
    let mut buf = [0; 20];
    assert_eq!(editor.read_staged(staged, 45, &mut buf).unwrap(), 5);
    // Put under a name that cannot be: it stays staged, and is freed at the end.
    assert!(
        editor
            .put_staged(&path("/no/such"), &attributes(0o644), staged)
            .is_err()
    );
    assert!(
        editor
            .put_staged(&path("/lost+found"), &attributes(0o644), staged)
            .is_err()
    );
    assert!(
        editor
            .rename(&path("/lost+found"), &path("/lost+found/in"))
            .is_err()
    );
    assert!(editor.remove(&path("/")).is_err());
    assert!(editor.free_bytes() < free.0);
    assert_eq!(editor.free_nodes(), free.1);
    editor.finish().unwrap();
    model.check(&image, "short");
}

#[test]
fn features_that_are_not_kept_up_are_refused_by_name_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bit) in [
        ("ea_inode", 0_u32),
        ("read-only", 0x1000),
        ("shared_blocks", 0x4000),
        ("snapshot", 0x80),
        ("ro_compat-0x800000", 0x80_0000),
    ] {
        let made = if bit == 0 {
            "-t ext4 -O ea_inode"
        } else {
            "-t ext4 -O ^metadata_csum"
        };
        let image = make(folder.path(), name, made, 64, None);
        let mut bytes = fs::read(&image).unwrap();
        let word = u32::from_le_bytes(bytes[1124..1128].try_into().unwrap()) | bit;
        bytes[1124..1128].copy_from_slice(&word.to_le_bytes());
        fs::write(&image, bytes).unwrap();
        let before = fs::read(&image).unwrap();
        let Err(error) = Ext4Editor::open(FileDevice::open(&image), Options { now: NOW }) else {
            panic!("{name} was not refused");
        };
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        assert!(fs::read(&image).unwrap() == before, "{name} was written");
    }
    let image = make(folder.path(), "errors", "-t ext4", 16, None);
    must(
        "debugfs",
        &[
            "-w",
            "-R",
            "set_super_value state 3",
            image.to_str().unwrap(),
        ],
    );
    let Err(error) = Ext4Editor::open(FileDevice::open(&image), Options { now: NOW }) else {
        panic!("errors were not refused");
    };
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

/// An inode used again shows nothing of what it was: no attribute, no byte.
#[test]
fn a_recycled_inode_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "recycled", "-t ext4 -N 32", 16, None);
    let mut model = model(&image);
    let mut editor = open(&image);
    let mut with = attributes(0o4755);
    with.xattrs
        .insert(b"security.capability".to_vec(), vec![1; 20]);
    with.xattrs.insert(b"user.long".to_vec(), vec![2; 600]);
    let mut count = 0;
    while editor
        .put_file(&path(&format!("/a{count}")), &with, 4, &mut &b"over"[..])
        .is_ok()
    {
        count += 1;
    }
    for n in 0..count {
        editor.remove(&path(&format!("/a{n}"))).unwrap();
    }
    for n in 0..count {
        let name = format!("/b{n}");
        if n % 2 == 0 {
            editor
                .put_file(&path(&name), &attributes(0o644), 0, &mut &b""[..])
                .unwrap();
            model.add(&name, file(b""));
        } else {
            editor
                .make_directory(&path(&name), &attributes(0o755))
                .unwrap();
            model.add(&name, directory());
        }
    }
    editor.finish().unwrap();
    model.check(&image, "recycled");
}

/// debugfs leaves transactions in the journal: they are written to their places, and edits follow.
#[test]
fn a_journal_with_work_in_it_is_replayed_before_editing() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    fs::write(content.join("moved"), vec![b'm'; 20_000]).unwrap();
    for (name, options, version) in [
        ("two", "-t ext4 -b 1024 -O metadata_csum", "-c -v 2"),
        ("three", "-t ext4 -b 4096 -O metadata_csum,64bit", "-c -v 3"),
        ("none", "-t ext4 -b 1024 -O ^metadata_csum", ""),
    ] {
        let image = make(folder.path(), name, options, 32, Some(&content));
        let blocks = must("debugfs", &["-R", "blocks /moved", image.to_str().unwrap()]);
        let first = blocks.split_whitespace().next().unwrap().to_owned();
        let data = folder.path().join("data");
        fs::write(&data, vec![b'j'; 4096]).unwrap();
        let commands = folder.path().join("commands");
        fs::write(
            &commands,
            format!(
                "journal_open {version}\njournal_write -b {first} {}\njournal_close\n",
                data.display()
            ),
        )
        .unwrap();
        must(
            "debugfs",
            &[
                "-w",
                "-f",
                commands.to_str().unwrap(),
                image.to_str().unwrap(),
            ],
        );
        let mut model = model(&image);
        let before = model.node("/moved").unwrap().digest.clone();
        assert_ne!(
            before,
            Some(digest(&vec![b'm'; 20_000])),
            "{name}: nothing to replay"
        );
        let mut editor = open(&image);
        editor
            .put_file(&path("/new"), &attributes(0o644), 3, &mut &b"new"[..])
            .unwrap();
        model.add("/new", file(b"new"));
        editor.finish().unwrap();
        model.check(&image, name);
    }
}

/// The kernel's own unfinished business: files that were removed while open. Needs root, and says so when not run.
#[test]
fn orphans_of_the_running_kernel_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("list", "-t ext4"),
        ("file", "-t ext4 -O orphan_file"),
        ("small", "-t ext4 -b 1024 -O ^metadata_csum"),
    ] {
        let image = make(folder.path(), name, options, 64, None);
        let Some(mount) = KernelMount::new(&image, "loop,noatime") else {
            println!("{name}: not run, this host does not let us mount");
            continue;
        };
        let mut open_files = Vec::new();
        for n in 0..20 {
            let file = mount.path().join(format!("f{n}"));
            fs::write(&file, vec![b'o'; n * 3000]).unwrap();
            must("sync", &["-f", mount.path().to_str().unwrap()]);
            open_files.push(fs::File::open(&file).unwrap());
            if n % 2 == 0 {
                fs::remove_file(&file).unwrap();
            }
        }
        must("sync", &["-f", mount.path().to_str().unwrap()]);
        let copy = folder.path().join("copy");
        must(
            "cp",
            &[
                "--sparse=always",
                image.to_str().unwrap(),
                copy.to_str().unwrap(),
            ],
        );
        drop(open_files);
        drop(mount);
        let mut model = model(&copy);
        assert_eq!(model.children("/").len(), 11, "{name}");
        let mut editor = open(&copy);
        editor
            .put_file(&path("/new"), &attributes(0o644), 3, &mut &b"new"[..])
            .unwrap();
        model.add("/new", file(b"new"));
        editor.finish().unwrap();
        let manifest = model.check(&copy, name);
        check_with_kernel(&copy, &manifest);
    }
}

/// Fewer names than a directory's link count can hold are counted, more are not.
#[test]
fn more_subdirectories_than_links_can_count() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(
        folder.path(),
        "links",
        "-t ext4 -b 1024 -N 70000 -I 128",
        200,
        None,
    );
    let mut editor = open(&image);
    editor
        .make_directory(&path("/top"), &attributes(0o755))
        .unwrap();
    for n in 0..65_010 {
        editor
            .make_directory(&path(&format!("/top/{n}")), &attributes(0o755))
            .unwrap();
    }
    for n in 0..20 {
        editor.remove(&path(&format!("/top/{n}"))).unwrap();
    }
    editor.finish().unwrap();
    let output = run("e2fsck", &["-fn", image.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = must("debugfs", &["-R", "stat /top", image.to_str().unwrap()]);
    assert!(text.contains("Links: 1 "), "{text}");
}
