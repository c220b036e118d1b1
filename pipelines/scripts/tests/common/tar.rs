//! A guest out of a tar archive: ustar with GNU's and POSIX's long names, as mmdebstrap writes it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use dormouse_filesystem::{MemoryTree, Time};

use super::Guests;

/// Bytes of a file up to which it is taken; longer ones are cut to 64, for nothing reads programs.
const MAX_TAKEN: usize = 4 << 20;

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_str_radix(text(bytes).trim(), 8).unwrap_or(0)
}

/// What one entry of an archive is.
pub(crate) enum Kind {
    File(Vec<u8>),
    /// Another name of the file at a path.
    Link(String),
    Symlink(String),
    Directory,
}

/// One entry of an archive, its path absolute.
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
}

fn absolute(name: &str) -> String {
    let name = name.strip_prefix('.').unwrap_or(name);
    format!("/{}", name.trim_matches('/'))
}

/// Reads an archive, entry by entry.
pub(crate) fn read(mut file: impl std::io::Read, mut each: impl FnMut(Entry)) {
    let (mut long_name, mut long_link) = (None, None);
    loop {
        let mut header = [0_u8; 512];
        if file.read_exact(&mut header).is_err() || header[0] == 0 {
            break;
        }
        let size = usize::try_from(number(&header[124..136])).unwrap();
        let kind = header[156];
        let mut bytes = Vec::new();
        if matches!(kind, b'0' | 0 | b'L' | b'K' | b'x' | b'g') {
            bytes = vec![0; size];
            file.read_exact(&mut bytes).unwrap();
            let padding = u64::try_from((512 - size % 512) % 512).unwrap();
            std::io::copy(&mut file.by_ref().take(padding), &mut std::io::sink()).unwrap();
        }
        match kind {
            b'L' => long_name = Some(text(&bytes)),
            b'K' => long_link = Some(text(&bytes)),
            b'x' | b'g' => {
                for record in String::from_utf8_lossy(&bytes).lines() {
                    let pair = record.split_once(' ').map_or("", |(_, pair)| pair);
                    if let Some(path) = pair.strip_prefix("path=") {
                        long_name = Some(path.to_owned());
                    } else if let Some(path) = pair.strip_prefix("linkpath=") {
                        long_link = Some(path.to_owned());
                    }
                }
            }
            _ => {
                let (prefix, short) = (text(&header[345..500]), text(&header[..100]));
                let name = long_name.take().unwrap_or_else(|| {
                    if prefix.is_empty() || &header[257..263] != b"ustar\0" {
                        short
                    } else {
                        format!("{prefix}/{short}")
                    }
                });
                let link = long_link.take().unwrap_or_else(|| text(&header[157..257]));
                let kind = match kind {
                    b'0' | 0 => Kind::File(bytes),
                    b'1' => Kind::Link(absolute(&link)),
                    b'2' => Kind::Symlink(link),
                    b'5' => Kind::Directory,
                    _ => continue,
                };
                let path = absolute(&name);
                if path != "/" {
                    each(Entry {
                        path,
                        kind,
                        mode: u16::try_from(number(&header[100..108]) & 0o7777).unwrap(),
                        uid: u32::try_from(number(&header[108..116])).unwrap(),
                        gid: u32::try_from(number(&header[116..124])).unwrap(),
                        seconds: i64::try_from(number(&header[136..148])).unwrap(),
                    });
                }
            }
        }
    }
}

/// A guest of an archive's entries.
pub(crate) fn guest(archive: &Path) -> Guests {
    let file = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(archive).unwrap());
    let mut tree = MemoryTree::new();
    let mut known: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    read(file, |entry| {
        match entry.kind {
            Kind::File(mut bytes) => {
                if bytes.len() > MAX_TAKEN {
                    bytes.truncate(64);
                }
                tree.file(&entry.path, &bytes);
                known.insert(entry.path, bytes);
            }
            Kind::Link(target) => {
                let bytes = known.get(&target).cloned().unwrap_or_default();
                tree.file(&entry.path, &bytes);
            }
            Kind::Symlink(target) => {
                tree.symlink(&entry.path, &target);
            }
            Kind::Directory => {
                tree.directory(&entry.path);
            }
        }
        tree.with(|node| {
            node.mode = entry.mode;
            node.uid = entry.uid;
            node.gid = entry.gid;
            node.mtime = Time {
                seconds: entry.seconds,
                nanoseconds: 0,
            };
        });
    });
    Guests { tree }
}
