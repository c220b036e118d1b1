//! What a filesystem should hold after a number of edits: the same edits on maps in memory.

use std::collections::BTreeMap;
use std::path::Path;

use dormouse_block::GuestPath;
use dormouse_filesystem::{NodeKind, Time};
use dormouse_overlay::Attributes;
use dormouse_overlay::ext::{Ext4Editor, Options};
use sha2::{Digest, Sha256};

use crate::device::FileDevice;
use crate::oracle::{self, Manifest, must, run};

pub const NOW: Time = Time {
    seconds: 1_790_000_000,
    nanoseconds: 5,
};

/// A small generator (xorshift64*), so that a failing run can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

#[derive(Debug, Clone)]
pub struct Node {
    pub kind: NodeKind,
    pub attributes: Attributes,
    /// Whether the time of its last change is known: not for directories that the editor did not make.
    pub timed: bool,
    pub size: u64,
    pub digest: Option<String>,
    pub target: Option<Vec<u8>>,
    pub device: Option<(u32, u32)>,
}

/// Names and what they lead to; hard links share a node.
pub struct Model {
    pub names: BTreeMap<String, usize>,
    pub nodes: Vec<Node>,
}

pub fn path(text: &str) -> GuestPath {
    GuestPath::new(text).unwrap()
}

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub fn attributes(mode: u16) -> Attributes {
    Attributes {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time {
            seconds: 1_700_000_000,
            nanoseconds: 123_456_789,
        },
        xattrs: BTreeMap::new(),
    }
}

pub fn open(image: &Path) -> Box<Ext4Editor> {
    open_later(image, 0)
}

/// So many seconds after [`NOW`].
pub fn open_later(image: &Path, seconds: i64) -> Box<Ext4Editor> {
    let now = Time {
        seconds: NOW.seconds + seconds,
        ..NOW
    };
    let editor = Ext4Editor::open(FileDevice::open(image), Options { now });
    Box::new(editor.unwrap_or_else(|error| panic!("{}: {}", image.display(), error.with_causes())))
}

impl Model {
    pub fn of(manifest: &Manifest) -> Self {
        let mut nodes = Vec::new();
        let mut by_inode = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (name, entry) in manifest {
            let metadata = &entry.metadata;
            let node = *by_inode.entry(metadata.node).or_insert_with(|| {
                nodes.push(Node {
                    kind: metadata.kind,
                    attributes: Attributes {
                        mode: metadata.mode,
                        uid: metadata.uid,
                        gid: metadata.gid,
                        mtime: metadata.mtime,
                        xattrs: entry.xattrs.clone(),
                    },
                    timed: metadata.kind != NodeKind::Directory,
                    size: metadata.size,
                    digest: entry.digest.clone(),
                    target: entry.target.clone(),
                    device: metadata.device,
                });
                nodes.len() - 1
            });
            names.insert(String::from_utf8(name.clone()).unwrap(), node);
        }
        Self { names, nodes }
    }

    pub fn add(&mut self, name: &str, node: Node) {
        self.nodes.push(node);
        self.names.insert(name.to_owned(), self.nodes.len() - 1);
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.names.get(name).map(|node| &self.nodes[*node])
    }

    pub fn children(&self, name: &str) -> Vec<String> {
        let prefix = format!("{}/", name.trim_end_matches('/'));
        self.names
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&prefix))
            .map(|(name, _)| name.clone())
            .filter(|name| name.len() > prefix.len())
            .collect()
    }

    /// Moves a name and all below it.
    pub fn rename(&mut self, from: &str, to: &str) {
        let mut moved = vec![from.to_owned()];
        if self.nodes[self.names[from]].kind == NodeKind::Directory {
            moved.extend(self.children(from));
        }
        for name in moved {
            let node = self.names.remove(&name).unwrap();
            self.names
                .insert(format!("{to}{}", &name[from.len()..]), node);
        }
    }

    /// Holds a filesystem that was edited against this, and against e2fsck and debugfs.
    pub fn check(&self, image: &Path, name: &str) -> Manifest {
        let output = run("e2fsck", &["-fn", image.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors: String = errors
            .lines()
            .filter(|line| !line.starts_with("e2fsck 1."))
            .collect();
        assert_eq!(output.status.code(), Some(0), "{name}: {text}{errors}");
        assert_eq!(errors, "", "{name}: e2fsck warns");
        for line in text.lines() {
            let quiet = line.starts_with("Pass ") || line.contains(" files (");
            assert!(quiet, "{name}: e2fsck says: {text}");
        }
        let manifest = oracle::walk(&*oracle::open(image))
            .unwrap_or_else(|error| panic!("{name}: {}", error.with_causes()));
        let mut links: BTreeMap<usize, u32> = BTreeMap::new();
        for node in self.names.values() {
            *links.entry(*node).or_default() += 1;
        }
        for (path, found) in &manifest {
            let shown = String::from_utf8_lossy(path).into_owned();
            let node = self
                .names
                .get(&shown)
                .unwrap_or_else(|| panic!("{name}: {shown} should not be there"));
            let wanted = &self.nodes[*node];
            let metadata = &found.metadata;
            assert_eq!(metadata.kind, wanted.kind, "{name}: kind of {shown}");
            assert_eq!(
                metadata.mode, wanted.attributes.mode,
                "{name}: mode of {shown}"
            );
            assert_eq!(
                (metadata.uid, metadata.gid),
                (wanted.attributes.uid, wanted.attributes.gid),
                "{name}: owner of {shown}"
            );
            if wanted.timed {
                assert_eq!(
                    metadata.mtime, wanted.attributes.mtime,
                    "{name}: mtime of {shown}"
                );
            }
            assert_eq!(
                found.xattrs, wanted.attributes.xattrs,
                "{name}: attributes of {shown}"
            );
            assert_eq!(found.digest, wanted.digest, "{name}: bytes of {shown}");
            assert_eq!(found.target, wanted.target, "{name}: target of {shown}");
            assert_eq!(metadata.device, wanted.device, "{name}: device of {shown}");
            if wanted.kind == NodeKind::Directory {
                continue;
            }
            assert_eq!(metadata.links, links[node], "{name}: links of {shown}");
            if wanted.kind == NodeKind::File {
                assert_eq!(metadata.size, wanted.size, "{name}: size of {shown}");
            }
        }
        for wanted in self.names.keys() {
            assert!(
                manifest.contains_key(wanted.as_bytes()),
                "{name}: {wanted} is missing"
            );
        }
        oracle::check_with_debugfs(image, &manifest);
        manifest
    }
}

/// A filesystem made by mke2fs.
pub fn make(
    folder: &Path,
    name: &str,
    options: &str,
    mib: u64,
    content: Option<&Path>,
) -> std::path::PathBuf {
    let image = folder.join(format!("{name}.img"));
    let file = std::fs::File::create(&image).unwrap();
    if name.contains("garbage") {
        // What mke2fs does not initialise is then anything but zeroes.
        std::fs::write(&image, vec![0xA5; (mib << 20) as usize]).unwrap();
    }
    file.set_len(mib << 20).unwrap();
    // What only tune2fs can set.
    let tuned = options
        .split_whitespace()
        .find(|word| word.starts_with("hash_alg="));
    let mut args: Vec<&str> = options
        .split_whitespace()
        .filter(|word| Some(*word) != tuned)
        .collect();
    args.extend(["-q", "-F"]);
    if let Some(content) = content {
        args.extend(["-d", content.to_str().unwrap()]);
    }
    args.push(image.to_str().unwrap());
    must("mke2fs", &args);
    if options.contains("quota") && content.is_some() {
        // mke2fs 1.47 counts nothing of what it copies, and e2fsck counts before it packs directories.
        run("e2fsck", &["-fy", image.to_str().unwrap()]);
        run("e2fsck", &["-fy", image.to_str().unwrap()]);
    }
    if let Some(tuned) = tuned {
        must("tune2fs", &["-E", tuned, image.to_str().unwrap()]);
    }
    image
}
