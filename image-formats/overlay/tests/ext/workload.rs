//! Thousands of mixed operations, the same on a model and on filesystems of many option sets.

use std::fs;
use std::path::Path;

use dormouse_filesystem::{NodeKind, Time};
use dormouse_overlay::{Attributes, Editor};

use crate::model::{Model, Node, Random, attributes, digest, make, open_later, path};
use crate::oracle::{self, KernelMount};

const OPTION_SETS: &[(&str, &str)] = &[
    ("default", "-t ext4"),
    ("4k", "-t ext4 -b 4096 -O orphan_file"),
    ("2k-512", "-t ext4 -b 2048 -I 512 -O metadata_csum_seed"),
    ("128", "-t ext4 -b 1024 -I 128"),
    ("no-csum", "-t ext4 -b 4096 -O ^metadata_csum,^64bit"),
    ("gdt-csum", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg"),
    ("inline", "-t ext4 -b 1024 -I 256 -O inline_data"),
    ("meta-bg", "-t ext4 -b 1024 -O meta_bg,^resize_inode"),
    ("no-flex", "-t ext4 -b 1024 -O ^flex_bg"),
    ("no-index", "-t ext4 -b 4096 -O ^dir_index"),
    ("large-dir", "-t ext4 -b 1024 -O large_dir"),
    ("no-journal", "-t ext4 -b 4096 -O ^has_journal"),
    ("ext3", "-t ext3 -b 1024"),
    ("ext2", "-t ext2 -b 4096 -I 128"),
    ("no-filetype", "-t ext2 -b 1024 -O ^filetype"),
    ("bigalloc", "-t ext4 -O bigalloc -b 4096 -C 16384"),
    ("bigalloc-1k", "-t ext4 -O bigalloc -b 1024 -C 4096"),
    (
        "bigalloc-quota",
        "-t ext4 -O bigalloc,quota,project,inline_data -I 256 -b 1024 -C 4096",
    ),
    ("quota", "-t ext4 -b 1024 -O quota"),
    ("project", "-t ext4 -b 4096 -O quota,project -I 256"),
    ("quota-ext2", "-t ext2 -b 1024 -O quota -I 256"),
    ("ext3-4k", "-t ext3 -b 4096 -I 256"),
    ("ext2-2k", "-t ext2 -b 2048 -I 256 -O ^dir_index"),
    (
        "sparse-super2",
        "-t ext4 -b 1024 -O sparse_super2,^resize_inode",
    ),
    ("sparse-super2-resize", "-t ext4 -b 1024 -O sparse_super2"),
    (
        "no-sparse-super",
        "-t ext4 -b 1024 -O ^sparse_super,^resize_inode",
    ),
    ("64k", "-t ext4 -b 65536 -O ^has_journal -I 256"),
    ("tea", "-t ext4 -b 1024 -O metadata_csum_seed hash_alg=tea"),
    ("legacy", "-t ext4 -b 1024 hash_alg=legacy"),
    ("casefold", "-t ext4 -b 4096 -O casefold -E encoding=utf8"),
    ("verity", "-t ext4 -b 4096 -O verity,encrypt,stable_inodes"),
    ("small-groups", "-t ext4 -b 1024 -g 1024 -G 4"),
    ("mmp", "-t ext4 -b 1024 -O mmp"),
    (
        "garbage",
        "-t ext4 -b 1024 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard",
    ),
    (
        "garbage-gdt",
        "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg -E lazy_itable_init=1,nodiscard",
    ),
];

struct Run<'a> {
    model: &'a mut Model,
    random: &'a mut Random,
    editor: Box<dyn Editor>,
    serial: usize,
    small: bool,
}

impl Run<'_> {
    fn attributes(&mut self, mode: u16) -> Attributes {
        let mut out = attributes(mode);
        let random = &mut *self.random;
        out.uid = [0, 1000, 65_534, 70_000, 4_000_000_000][random.below(5)];
        out.gid = [0, 1000, 100_000][random.below(3)];
        if !self.small {
            out.mtime = Time {
                seconds: (random.next() % 6_000_000_000) as i64 - 1_000_000_000,
                nanoseconds: (random.next() % 1_000_000_000) as u32,
            };
        } else {
            out.mtime = Time {
                seconds: (random.next() % 2_000_000_000) as i64,
                nanoseconds: 0,
            };
        }
        let random = &mut *self.random;
        if random.below(3) == 0 {
            let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            out.xattrs
                .insert(b"security.capability".to_vec(), capability.to_vec());
        }
        if random.below(3) == 0 {
            out.xattrs.insert(
                b"security.selinux".to_vec(),
                b"system_u:object_r:usr_t:s0\0".to_vec(),
            );
        }
        if random.below(8) == 0 {
            let len = random.below(400);
            let value = random.bytes(len);
            out.xattrs
                .insert(format!("user.long-{}", random.below(3)).into_bytes(), value);
        }
        if random.below(12) == 0 {
            let acl = [
                &2_u32.to_le_bytes()[..],
                &[1, 0, 6, 0, 255, 255, 255, 255],
                &[2, 0, 4, 0, 232, 3, 0, 0],
                &[4, 0, 4, 0, 255, 255, 255, 255],
                &[16, 0, 4, 0, 255, 255, 255, 255],
                &[32, 0, 4, 0, 255, 255, 255, 255],
            ]
            .concat();
            out.xattrs.insert(b"system.posix_acl_access".to_vec(), acl);
        }
        out
    }

    fn pick(&mut self, wanted: impl Fn(&Node) -> bool) -> Option<String> {
        let names: Vec<&String> = self.model.names.keys().collect();
        for _ in 0..50 {
            let name = names[self.random.below(names.len())];
            let node = &self.model.nodes[self.model.names[name]];
            if name != "/" && !name.starts_with("/lost+found") && wanted(node) {
                return Some(name.clone());
            }
        }
        None
    }

    fn directory(&mut self) -> String {
        let found = self.pick(|node| node.kind == NodeKind::Directory);
        found
            .filter(|_| self.random.below(4) != 0)
            .unwrap_or_default()
    }

    fn fresh(&mut self) -> String {
        self.serial += 1;
        let directory = self.directory();
        let tail = "é".repeat(self.random.below(30));
        format!("{directory}/n{}-{tail}", self.serial)
    }

    /// A new name, or at times that of a node that is not a directory.
    fn target(&mut self) -> String {
        if self.random.below(5) == 0
            && let Some(name) = self.pick(|node| node.kind != NodeKind::Directory)
        {
            return name;
        }
        self.fresh()
    }

    fn node(&mut self, kind: NodeKind, mode: u16) -> Node {
        Node {
            kind,
            attributes: self.attributes(mode),
            timed: true,
            size: 0,
            digest: None,
            target: None,
            device: None,
        }
    }

    fn file(&mut self, name: &str, len: usize) {
        let mut node = self.node(NodeKind::File, 0o644);
        let bytes = self.random.bytes(len);
        node.size = len as u64;
        node.digest = Some(digest(&bytes));
        let size = node.size;
        if self.random.below(2) == 0 {
            self.editor
                .put_file(&path(name), &node.attributes, size, &mut &bytes[..])
                .unwrap();
        } else {
            let staged = self.editor.stage(size, &mut &bytes[..]).unwrap();
            let mut back = vec![0; len + 10];
            let n = self.editor.read_staged(staged, 0, &mut back).unwrap();
            assert_eq!(back[..n], bytes, "staged bytes are read back");
            self.editor
                .put_staged(&path(name), &node.attributes, staged)
                .unwrap();
        }
        self.model.add(name, node);
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=29 => {
                let name = self.target();
                let len = match self.random.below(40) {
                    0 => 2_000_000,
                    1..=4 => 100_000,
                    5..=9 => 0,
                    10..=19 => 40,
                    _ => 5000,
                };
                let len = self.random.below(len + 1);
                self.file(&name, len);
            }
            30..=37 => {
                let name = self.fresh();
                let mut node = self.node(NodeKind::Directory, 0o755);
                node.attributes.mode = 0o2755;
                self.editor
                    .make_directory(&path(&name), &node.attributes)
                    .unwrap();
                self.model.add(&name, node);
            }
            38..=45 => {
                let name = self.target();
                let mut node = self.node(NodeKind::Symlink, 0o777);
                let len = [1, 20, 59, 60, 61, 200, 1000][self.random.below(7)];
                let target = vec![b'a' + self.random.below(26) as u8; len];
                self.editor
                    .put_symlink(&path(&name), &node.attributes, &target)
                    .unwrap();
                node.size = len as u64;
                node.target = Some(target);
                self.model.add(&name, node);
            }
            46..=49 => {
                let name = self.target();
                let kinds = [
                    NodeKind::CharDevice,
                    NodeKind::BlockDevice,
                    NodeKind::Fifo,
                    NodeKind::Socket,
                ];
                let kind = kinds[self.random.below(4)];
                let mut node = self.node(kind, 0o600);
                if matches!(kind, NodeKind::CharDevice | NodeKind::BlockDevice) {
                    node.device = Some(
                        [(1, 3), (8, 255), (259, 70_000), (4095, 1_048_575)][self.random.below(4)],
                    );
                }
                self.editor
                    .put_special(&path(&name), &node.attributes, kind, node.device)
                    .unwrap();
                self.model.add(&name, node);
            }
            50..=55 => {
                let Some(from) = self.pick(|node| node.kind != NodeKind::Directory) else {
                    return;
                };
                let name = self.target();
                self.editor.link(&path(&from), &path(&name)).unwrap();
                self.model.names.insert(name, self.model.names[&from]);
            }
            56..=68 => self.rename(),
            69..=84 => {
                let Some(name) = self.pick(|_| true) else {
                    return;
                };
                if self.model.nodes[self.model.names[&name]].kind == NodeKind::Directory
                    && !self.model.children(&name).is_empty()
                {
                    assert!(
                        self.editor.remove(&path(&name)).is_err(),
                        "{name} is not empty"
                    );
                    if self.random.below(6) != 0 {
                        return;
                    }
                    for child in self.model.children(&name).into_iter().rev() {
                        self.editor.remove(&path(&child)).unwrap();
                        self.model.names.remove(&child);
                    }
                }
                self.editor.remove(&path(&name)).unwrap();
                self.model.names.remove(&name);
            }
            85..=97 => {
                let Some(name) = self.pick(|_| true) else {
                    return;
                };
                let mode = [0o644, 0o4755, 0o600, 0o1777][self.random.below(4)];
                let attributes = self.attributes(mode);
                self.editor
                    .set_attributes(&path(&name), &attributes)
                    .unwrap();
                let node = self.model.names[&name];
                self.model.nodes[node].attributes = attributes;
                self.model.nodes[node].timed = true;
            }
            _ => {
                let directory = self.directory();
                for _ in 0..self.random.below(300) {
                    self.serial += 1;
                    let name = format!("{directory}/bulk-{}", self.serial);
                    self.file(&name, 3);
                }
            }
        }
    }

    fn rename(&mut self) {
        let Some(from) = self.pick(|_| true) else {
            return;
        };
        let directory = self.model.nodes[self.model.names[&from]].kind == NodeKind::Directory;
        let to = if directory {
            self.fresh()
        } else {
            self.target()
        };
        if to.starts_with(&format!("{from}/")) {
            assert!(
                self.editor.rename(&path(&from), &path(&to)).is_err(),
                "{from} into itself"
            );
            return;
        }
        self.editor.rename(&path(&from), &path(&to)).unwrap();
        if self.model.names.get(&to) != Some(&self.model.names[&from]) {
            self.model.names.remove(&to);
            self.model.rename(&from, &to);
        }
    }
}

fn populate(folder: &Path) {
    for (name, size) in [("empty", 0), ("small", 100), ("large", 700_000)] {
        fs::write(folder.join(name), vec![b'p'; size]).unwrap();
    }
    for n in 0..40 {
        fs::write(folder.join(format!("one-of-many-{n}")), vec![b'm'; 5000]).unwrap();
    }
    for n in 0..4 {
        let inner = folder.join(format!("folder-{n}/deeper"));
        fs::create_dir_all(&inner).unwrap();
        for m in 0..[0, 3, 40, 900][n] {
            fs::write(inner.join(format!("file-{m}")), m.to_string()).unwrap();
        }
    }
    std::os::unix::fs::symlink("small", folder.join("link")).unwrap();
    std::os::unix::fs::symlink("l".repeat(200), folder.join("long")).unwrap();
}

pub fn workload(name: &str, image: &Path, seed: u64, sessions: usize, steps: usize) {
    let mut model = Model::of(&oracle::walk(&*oracle::open(image)).unwrap());
    let mut random = Random(seed);
    let mut serial = 0;
    let before = image.with_extension("before");
    for session in 0..sessions {
        if session > 0 {
            fs::copy(image, &before).unwrap();
        }
        let mut run = Run {
            model: &mut model,
            random: &mut random,
            // The time tells which directories a session changed.
            editor: open_later(image, session as i64),
            serial,
            small: ["128", "ext2", "ext3", "no-filetype", "inline", "quota"]
                .iter()
                .any(|part| name.contains(part))
                && !name.ends_with("-I256"),
        };
        for _ in 0..steps {
            run.step();
        }
        serial = run.serial;
        run.editor.finish().unwrap();
        model.check(image, &format!("{name}, seed {seed}, session {session}"));
        if session > 0 {
            crate::touched::check(name, &before, image);
        }
        // A later editor does not know that these times were given.
        for node in model
            .nodes
            .iter_mut()
            .filter(|node| node.kind == NodeKind::Directory)
        {
            node.timed = false;
        }
    }
    fs::remove_file(before).unwrap();
}

#[test]
fn mixed_operations_leave_what_the_model_says_and_e2fsck_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir(&content).unwrap();
    populate(&content);
    let rounds = std::env::var("DORMOUSE_WORKLOAD_ROUNDS").map_or(1, |text| text.parse().unwrap());
    for round in 0..rounds {
        for (nth, (name, options)) in OPTION_SETS.iter().enumerate() {
            let only = std::env::var("DORMOUSE_WORKLOAD_ONLY").unwrap_or_default();
            if !name.contains(&only) {
                continue;
            }
            let options = format!("{options} -N 30000");
            let mib = if *name == "64k" { 1024 } else { 256 };
            let image = make(folder.path(), name, &options, mib, Some(&content));
            workload(name, &image, 77 + round * 1000 + nth as u64, 2, 250);
            fs::remove_file(image).unwrap();
        }
    }
}

/// What the running kernel left, fragmented and with shared attribute blocks. Needs root, and says so when not run.
#[test]
fn a_filesystem_that_the_kernel_filled_is_edited() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("k-default", "-t ext4"),
        ("k-128", "-t ext4 -b 1024 -I 128"),
        ("k-ext3", "-t ext3"),
        ("k-ext2", "-t ext2 -b 2048 -I 128"),
        ("k-bigalloc", "-t ext4 -O bigalloc -b 4096 -C 16384"),
        (
            "k-quota",
            "-t ext4 -b 4096 -O quota,project,inline_data -I 256",
        ),
    ] {
        let image = make(
            folder.path(),
            name,
            &format!("{options} -N 30000"),
            200,
            None,
        );
        let Some(mount) = KernelMount::new(&image, "loop") else {
            println!("{name}: not run, this host does not let us mount");
            continue;
        };
        let root = mount.path();
        for n in 0..3000 {
            let file = root.join(format!("file-{n}"));
            fs::write(&file, vec![b'k'; n * 7]).unwrap();
            // The kernel lets inodes share blocks of equal attributes.
            for (attribute, value) in [
                ("user.shared", vec![b's'; 300]),
                ("user.own", n.to_string().into_bytes()),
            ]
            .iter()
            .take(1 + n % 2)
            {
                if n % 10 < 4 {
                    rustix::fs::setxattr(&file, *attribute, value, rustix::fs::XattrFlags::empty())
                        .unwrap();
                }
            }
        }
        for n in (0..3000).filter(|n| n % 3 == 0) {
            fs::remove_file(root.join(format!("file-{n}"))).unwrap();
        }
        fs::create_dir(root.join("folder")).unwrap();
        for n in 0..1500 {
            fs::write(root.join(format!("folder/name-{n}")), vec![b'f'; 3000]).unwrap();
        }
        drop(mount);
        workload(name, &image, 991, 2, 250);
    }
}
