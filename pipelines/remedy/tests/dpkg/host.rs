//! Folders of the host as guests, drafts made real on them, and folders compared.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::{DirEntry, FilesystemInfo, Metadata, NodeId, NodeKind, Time, Tree};
use dormouse_overlay::{Difference, Draft, DraftNode};

/// A folder of the host as a tree, listed once.
pub(crate) struct HostTree {
    root: NodeId,
    /// Whether directories go by one number, for comparing a folder with a copy whose files are the same nodes.
    blind: bool,
    paths: HashMap<NodeId, PathBuf>,
    children: HashMap<NodeId, Vec<DirEntry>>,
}

fn kind_of(metadata: &fs::Metadata) -> NodeKind {
    let kind = metadata.file_type();
    if kind.is_dir() {
        NodeKind::Directory
    } else if kind.is_symlink() {
        NodeKind::Symlink
    } else if kind.is_fifo() {
        NodeKind::Fifo
    } else if kind.is_char_device() {
        NodeKind::CharDevice
    } else if kind.is_block_device() {
        NodeKind::BlockDevice
    } else if kind.is_socket() {
        NodeKind::Socket
    } else {
        NodeKind::File
    }
}

impl HostTree {
    pub(crate) fn read(root: &Path) -> Self {
        let mut tree = Self {
            root: NodeId(fs::symlink_metadata(root).unwrap().ino()),
            blind: false,
            paths: HashMap::new(),
            children: HashMap::new(),
        };
        let mut todo = vec![root.to_path_buf()];
        tree.paths.insert(tree.root, root.to_path_buf());
        while let Some(directory) = todo.pop() {
            let node = NodeId(fs::symlink_metadata(&directory).unwrap().ino());
            let mut entries = Vec::new();
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let child = NodeId(metadata.ino());
                entries.push(DirEntry {
                    name: path.file_name().unwrap().as_bytes().to_vec(),
                    node: child,
                    kind: Some(kind_of(&metadata)),
                });
                tree.paths.insert(child, path.clone());
                if metadata.is_dir() {
                    todo.push(path);
                }
            }
            entries.sort();
            tree.children.insert(node, entries);
        }
        tree
    }

    pub(crate) fn without_directory_nodes(mut self) -> Self {
        self.blind = true;
        self
    }

    fn path(&self, node: NodeId) -> Result<&PathBuf> {
        self.paths
            .get(&node)
            .ok_or_else(|| Error::corrupt("no such node"))
    }
}

impl Tree for HostTree {
    fn info(&self) -> FilesystemInfo {
        FilesystemInfo {
            kind: "host".into(),
            label: None,
            uuid: None,
            size: 0,
            free: 0,
            features: Vec::new(),
            journal_replayed: false,
        }
    }

    fn root(&self) -> NodeId {
        self.root
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let metadata = fs::symlink_metadata(self.path(node)?).map_err(|e| Error::io("stat", e))?;
        let time = |seconds, nanoseconds: i64| Time {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap(),
        };
        Ok(Metadata {
            node: if self.blind && metadata.is_dir() {
                NodeId(0)
            } else {
                node
            },
            kind: kind_of(&metadata),
            mode: u16::try_from(metadata.mode() & 0o7777).unwrap(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            links: u32::try_from(metadata.nlink()).unwrap(),
            size: metadata.size(),
            atime: Time::default(),
            mtime: time(metadata.mtime(), metadata.mtime_nsec()),
            ctime: Time::default(),
            device: None,
        })
    }

    fn read_dir(&self, node: NodeId) -> Result<Vec<DirEntry>> {
        self.children
            .get(&node)
            .cloned()
            .ok_or_else(|| Error::corrupt("not a directory"))
    }

    fn lookup(&self, node: NodeId, name: &[u8]) -> Result<Option<DirEntry>> {
        let entries = self
            .children
            .get(&node)
            .ok_or_else(|| Error::corrupt("not a directory"))?;
        let at = entries.binary_search_by(|entry| entry.name.as_slice().cmp(name));
        Ok(at.ok().and_then(|at| entries.get(at)).cloned())
    }

    fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        let target = fs::read_link(self.path(node)?).map_err(|e| Error::io("readlink", e))?;
        Ok(target.into_os_string().into_vec())
    }

    fn read_at(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let file = fs::File::open(self.path(node)?).map_err(|e| Error::io("open", e))?;
        file.read_at(buf, offset).map_err(|e| Error::io("read", e))
    }

    fn xattrs(&self, _: NodeId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        Ok(BTreeMap::new())
    }
}

fn host(root: &Path, path: &GuestPath) -> PathBuf {
    let relative = path.as_bytes().strip_prefix(b"/").unwrap();
    root.join(Path::new(std::ffi::OsStr::from_bytes(relative)))
}

/// Makes a draft's differences real in the folder `root`, which is a copy of the draft's base.
pub(crate) fn realise(draft: &Draft, root: &Path) {
    let differences = draft.differences().unwrap();
    for (path, difference) in differences.iter().rev() {
        let at = host(root, path);
        if *difference == Difference::Removed {
            if fs::symlink_metadata(&at).unwrap().is_dir() {
                fs::remove_dir(&at).unwrap();
            } else {
                fs::remove_file(&at).unwrap();
            }
        }
    }
    for (path, difference) in &differences {
        let at = host(root, path);
        let attributes = match difference {
            Difference::Removed => continue,
            Difference::Attributes(attributes) => attributes,
            Difference::Put {
                node,
                attributes,
                link_to,
            } => {
                if let Ok(standing) = fs::symlink_metadata(&at)
                    && !(*node == DraftNode::Directory && standing.is_dir())
                {
                    assert!(!standing.is_dir(), "{path} is still a directory");
                    fs::remove_file(&at).unwrap();
                }
                if let Some(to) = link_to {
                    fs::hard_link(host(root, to), &at).unwrap();
                    continue;
                }
                match node {
                    DraftNode::File(content) => {
                        let mut bytes = Vec::new();
                        draft
                            .open(content)
                            .unwrap()
                            .read_to_end(&mut bytes)
                            .unwrap();
                        fs::write(&at, bytes).unwrap();
                    }
                    DraftNode::Directory => {
                        if let Err(error) = fs::create_dir(&at) {
                            panic!("{path}: {error}");
                        }
                    }
                    DraftNode::Symlink(target) => {
                        std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &at)
                            .unwrap();
                    }
                    DraftNode::Special(..) => panic!("no special files in these tests"),
                }
                attributes
            }
        };
        std::os::unix::fs::lchown(&at, Some(attributes.uid), Some(attributes.gid)).unwrap();
        let metadata = fs::symlink_metadata(&at).unwrap();
        if metadata.is_symlink() {
            continue;
        }
        fs::set_permissions(&at, fs::Permissions::from_mode(u32::from(attributes.mode))).unwrap();
        let time = std::time::UNIX_EPOCH
            + std::time::Duration::from_secs(u64::try_from(attributes.mtime.seconds).unwrap());
        fs::File::open(&at)
            .unwrap()
            .set_times(fs::FileTimes::new().set_modified(time))
            .unwrap();
    }
}

/// What two folders must agree on. Times of directories and of what dpkg writes at its own time are left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: NodeKind,
    mode: u32,
    owner: (u32, u32),
    mtime: Option<i64>,
    bytes: Vec<u8>,
    /// The first name of the same node.
    same_as: String,
}

pub(crate) fn see(root: &Path) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    let mut first: HashMap<u64, String> = HashMap::new();
    let mut todo = vec![root.to_path_buf()];
    let mut paths = Vec::new();
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let name = format!("/{}", path.strip_prefix(root).unwrap().to_string_lossy());
        // Locks are dpkg's own; activated triggers are noted in an empty file that its first run makes.
        if name.ends_with("/lock")
            || name.ends_with("/lock-frontend")
            || name.ends_with("/triggers/Lock")
            || (name.ends_with("/triggers/Unincorp") && fs::read(&path).unwrap().is_empty())
        {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = kind_of(&metadata);
        let mut bytes = match kind {
            NodeKind::File => fs::read(&path).unwrap(),
            NodeKind::Symlink => fs::read_link(&path).unwrap().into_os_string().into_vec(),
            _ => Vec::new(),
        };
        let own_time = name.starts_with("/var/lib/dpkg/")
            && !(name.contains("/info/")
                && !name.ends_with(".list")
                && !name.ends_with(".md5sums"));
        if name == "/var/log/dpkg.log" {
            let text = String::from_utf8(bytes).unwrap();
            // One run or two; what is available is known to the run that was given the package files.
            let lines: Vec<&str> = text
                .lines()
                .map(|line| &line[20..])
                .filter(|line| !line.starts_with("startup "))
                .map(|line| match line.rsplit_once(' ') {
                    Some((head, _)) if line.starts_with("configure ") => head,
                    Some((head, _)) if line.starts_with("trigproc ") => head,
                    _ => line,
                })
                .collect();
            bytes = lines.join("\n").into_bytes();
        }
        let same_as = match kind {
            NodeKind::File => first
                .entry(metadata.ino())
                .or_insert_with(|| name.clone())
                .clone(),
            _ => String::new(),
        };
        let timed = kind == NodeKind::File
            && !own_time
            && !["/var/log/dpkg.log", "/var/notes"].contains(&name.as_str());
        seen.insert(
            name,
            Seen {
                kind,
                mode: metadata.mode() & 0o7777,
                owner: (metadata.uid(), metadata.gid()),
                mtime: timed.then(|| metadata.mtime()),
                bytes,
                same_as,
            },
        );
    }
    seen
}

/// Fails with every difference between two folders.
pub(crate) fn assert_same(expected: &Path, found: &Path) {
    let (expected, found) = (see(expected), see(found));
    let mut wrong = Vec::new();
    for (name, seen) in &expected {
        match found.get(name) {
            None => wrong.push(format!("{name} is missing")),
            Some(other) if other != seen => {
                let text = |bytes: &[u8]| {
                    String::from_utf8_lossy(&bytes[..bytes.len().min(6000)]).into_owned()
                };
                let mut line = format!("{name} differs:");
                if (seen.kind, seen.mode, seen.owner, seen.mtime, &seen.same_as)
                    != (
                        other.kind,
                        other.mode,
                        other.owner,
                        other.mtime,
                        &other.same_as,
                    )
                {
                    line += &format!(
                        "\n  dpkg: {:?} {:o} {:?} {:?} {}\n  ours: {:?} {:o} {:?} {:?} {}",
                        seen.kind,
                        seen.mode,
                        seen.owner,
                        seen.mtime,
                        seen.same_as,
                        other.kind,
                        other.mode,
                        other.owner,
                        other.mtime,
                        other.same_as
                    );
                }
                if seen.bytes != other.bytes {
                    line += &format!(
                        "\n--- dpkg\n{}\n--- ours\n{}",
                        text(&seen.bytes),
                        text(&other.bytes)
                    );
                }
                wrong.push(line);
            }
            Some(_) => {}
        }
    }
    for name in found.keys() {
        if !expected.contains_key(name) {
            wrong.push(format!("{name} is there, and dpkg has none"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
