//! Package files: deb(5) containers, unpacked in one forward pass.
//!
//! [`unpack`] reads a package file from first byte to last, decompresses its two archives once, keeps the control
//! members, and hands the bytes of each regular file to a sink as they come. What it yields holds no contents: each
//! file is known by its place in the unpacked data archive and its digests.

mod ar;
mod codec;
mod control;
mod tar;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use dormouse_block::{Digest, Error, GuestPath, Locator, Result};
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use ar::Archive;
use codec::Codec;
pub use control::{Control, ControlMember};
use tar::{Kind, Tar};

/// Bounds on one package file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the unpacked control archive. Real ones have under 8 MiB (a large `md5sums` or `symbols`).
    pub control: u64,
    /// Bytes of the unpacked data archive, whatever the package says of its size.
    pub data: u64,
    /// Bytes of the unpacked data archive for each byte that `Installed-Size` announces; beyond that (and
    /// [`Limits::slack`]) it is called a bomb. dpkg-gencontrol rounds each file up to KiB, so real ones stay below 1.5.
    pub ratio: u64,
    /// Bytes that the ratio is never applied to.
    pub slack: u64,
    /// Entries of either archive.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control: 64 << 20,
            data: 64 << 30,
            ratio: 4,
            slack: 64 << 20,
            entries: 1_000_000,
        }
    }
}

/// What the repository's index says a package file is; one that says otherwise of itself is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identity {
    /// `Package`.
    pub name: String,
    /// `Version`.
    pub version: String,
    /// `Architecture`.
    pub architecture: String,
}

/// A regular file on its way to the sink, before its digests are known.
#[derive(Debug, Clone, Copy)]
pub struct FileHead<'a> {
    /// Where the package puts it.
    pub path: &'a GuestPath,
    /// Where its bytes begin in the unpacked data archive.
    pub offset: u64,
    /// How many they are.
    pub size: u64,
}

/// One entry of a package's data archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadEntry {
    /// Where the package puts it.
    pub path: GuestPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission, set-id and sticky bits (`0o7777`).
    pub mode: u16,
    /// The archive's owner; dpkg asks the guest for the name first.
    pub uid: u32,
    /// The archive's group; dpkg asks the guest for the name first.
    pub gid: u32,
    /// The owner's name, empty where there is none.
    pub owner: String,
    /// The group's name, empty where there is none.
    pub group: String,
    /// Last change, in seconds since 1970-01-01 UTC.
    pub mtime: i64,
}

/// What an entry of a data archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Where its bytes begin in the unpacked data archive.
        offset: u64,
        /// How many they are.
        size: u64,
        /// Their digest.
        sha256: Digest,
        /// Their MD5, where dpkg's database will need it: for conffiles, and where the package brings no `md5sums`.
        md5: Option<[u8; 16]>,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name of an earlier entry.
    HardLink(GuestPath),
    /// A character device and its numbers.
    CharDevice(u32, u32),
    /// A block device and its numbers.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// A package file without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The package file's digest, as computed while it was read.
    pub payload: Digest,
    /// Its bytes.
    pub size: u64,
    /// Its control fields.
    pub control: Control,
    /// Every file of its control archive by name, `control` included.
    pub members: BTreeMap<String, ControlMember>,
    /// Its data archive in order.
    pub entries: Vec<PayloadEntry>,
    /// Bytes of the unpacked data archive.
    pub data_size: u64,
    /// Bytes of all regular files.
    pub content_size: u64,
}

/// Receives each regular file of a data archive, in order. What it leaves unread is read and digested all the same.
pub type Sink<'a> = dyn FnMut(FileHead<'_>, &mut dyn Read) -> Result<()> + 'a;

/// Reads a package file and hands its regular files to `sink`; all of `reader` is read to its end.
///
/// # Errors
/// `Corrupt` for what is no package file, is broken, reaches out of the tree, or says of itself other than `identity`;
/// `Unsupported` for members and entries of kinds that dpkg refuses too; `Limit` beyond `limits`; `Io` when `reader`
/// fails; and whatever `sink` returns.
pub fn unpack(
    reader: impl Read,
    identity: Option<&Identity>,
    limits: &Limits,
    sink: &mut Sink<'_>,
) -> Result<Unpacked> {
    let mut archive = Archive::open(dormouse_block::DigestReader::new(reader))?;
    let first = archive
        .next_member()?
        .ok_or_else(|| Error::corrupt("an empty package file"))?;
    if first.name != "debian-binary" || first.size > 4096 {
        return Err(Error::corrupt(
            "a package file that does not begin with debian-binary",
        ));
    }
    let mut version = String::new();
    (&mut archive)
        .take(4096)
        .read_to_string(&mut version)
        .map_err(tar::decoding)?;
    if !version
        .split('\n')
        .next()
        .is_some_and(|line| line == "2" || line.starts_with("2."))
    {
        return Err(Error::unsupported(
            "a package file of another format than 2",
        ));
    }
    let name = member_named(&mut archive, "control.tar")?;
    let codec = Codec::of(&name, "control.tar")?;
    let members = control::read(codec.decode(&mut archive)?, limits)?;
    let control = members
        .get("control")
        .ok_or_else(|| Error::corrupt("a package without its control file"))
        .and_then(|member| Control::parse(&member.bytes))?;
    if let Some(identity) = identity {
        control.agrees_with(identity)?;
    }
    let name = member_named(&mut archive, "data.tar")?;
    let codec = Codec::of(&name, "data.tar")?;
    let bound = control
        .installed_size()
        .saturating_mul(1024)
        .saturating_mul(limits.ratio)
        .saturating_add(limits.slack)
        .min(limits.data);
    let conffiles = control::conffiles(&members)?;
    let wanted: HashSet<&GuestPath> = conffiles.iter().map(|conffile| &conffile.path).collect();
    let all_md5 = !members.contains_key("md5sums");
    let mut data = Tar::new(codec.decode(&mut archive)?, bound);
    let mut entries: Vec<PayloadEntry> = Vec::new();
    let mut content_size = 0_u64;
    while let Some(header) = data.next_entry()? {
        if entries.len() >= limits.entries {
            return Err(Error::limit(format!(
                "more than {} entries in a package",
                limits.entries
            )));
        }
        let kind = match header.kind {
            Kind::File => {
                let head = FileHead {
                    path: &header.path,
                    offset: header.offset,
                    size: header.size,
                };
                let md5 = all_md5 || wanted.contains(&header.path);
                let mut content = Content {
                    inner: &mut data,
                    sha256: Sha256::new(),
                    md5: md5.then(Md5::new),
                    failure: None,
                };
                let taken = sink(head, &mut content);
                // What the sink says of a content that would not read is only hearsay.
                if let Some(failure) = content.failure.take() {
                    return Err(failure);
                }
                taken?;
                content.drain()?;
                content_size = content_size.saturating_add(header.size);
                EntryKind::File {
                    offset: header.offset,
                    size: header.size,
                    sha256: Digest::from_bytes(content.sha256.finalize().into()),
                    md5: content.md5.map(|md5| md5.finalize().into()),
                }
            }
            Kind::HardLink(to) => EntryKind::HardLink(to),
            Kind::Symlink(target) => EntryKind::Symlink(target),
            Kind::CharDevice(major, minor) => EntryKind::CharDevice(major, minor),
            Kind::BlockDevice(major, minor) => EntryKind::BlockDevice(major, minor),
            Kind::Directory => EntryKind::Directory,
            Kind::Fifo => EntryKind::Fifo,
        };
        entries.push(PayloadEntry {
            path: header.path,
            kind,
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            owner: header.owner,
            group: header.group,
            mtime: header.mtime,
        });
    }
    let data_size = data.position();
    drop(data);
    check_tree(&entries)?;
    // What follows the data archive belongs to the digest, though dpkg ignores it.
    while archive.next_member()?.is_some() {}
    let (payload, size) = archive.into_inner().finish();
    Ok(Unpacked {
        payload,
        size,
        control,
        members,
        entries,
        data_size,
        content_size,
    })
}

/// An error that came through a reader, with its own kind where it is one of ours.
pub(crate) fn reading(error: std::io::Error) -> Error {
    tar::decoding(error)
}

/// The next member that is not private (`_...`), which must begin with `stem`.
fn member_named<R: Read>(archive: &mut Archive<R>, stem: &str) -> Result<String> {
    loop {
        let member = archive
            .next_member()?
            .ok_or_else(|| Error::corrupt(format!("a package file without {stem}")))?;
        if member.name.starts_with(stem) {
            return Ok(member.name);
        }
        if !member.name.starts_with('_') {
            return Err(Error::corrupt(format!(
                "a package file with {} in the place of {stem}",
                member.name
            )));
        }
    }
}

/// What must hold between entries: a hard link leads to an earlier regular file; nothing stands below what an earlier
/// entry of the same package made something else than a directory.
fn check_tree(entries: &[PayloadEntry]) -> Result<()> {
    let mut files: HashSet<&GuestPath> = HashSet::new();
    let mut kinds: HashMap<&GuestPath, bool> = HashMap::new();
    for entry in entries {
        let located = |error: Error| error.located(&Locator::default().path(entry.path.clone()));
        if let Some(parent) = entry.path.parent()
            && kinds.get(&parent) == Some(&false)
        {
            return Err(located(Error::corrupt(
                "an entry of a package below a link or file of the same package",
            )));
        }
        let directory = entry.kind == EntryKind::Directory;
        match &entry.kind {
            EntryKind::File { .. } => {
                files.insert(&entry.path);
            }
            EntryKind::HardLink(to) => {
                if !files.contains(to) {
                    return Err(located(Error::corrupt(format!(
                        "a hard link to {to}, which is no earlier file of the package"
                    ))));
                }
                files.insert(&entry.path);
            }
            _ => {}
        }
        if kinds.insert(&entry.path, directory).is_some() && !directory {
            return Err(located(Error::corrupt("a package has one path twice")));
        }
    }
    Ok(())
}

/// A file's bytes on their way, digested as they pass.
struct Content<'a, 'b> {
    inner: &'a mut Tar<'b>,
    sha256: Sha256,
    md5: Option<Md5>,
    failure: Option<Error>,
}

impl Content<'_, '_> {
    fn drain(&mut self) -> Result<()> {
        let mut buf = vec![0; 64 << 10];
        loop {
            match self.read(&mut buf) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(self.failure.take().unwrap_or_else(|| tar::decoding(error)));
                }
            }
        }
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = match self.inner.read(buf) {
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let failure = tar::decoding(error);
                let told = std::io::Error::other(failure.with_causes());
                self.failure = Some(failure);
                return Err(told);
            }
        };
        let part = buf.get(..n).unwrap_or_default();
        self.sha256.update(part);
        if let Some(md5) = &mut self.md5 {
            md5.update(part);
        }
        Ok(n)
    }
}

/// A line of a package's `conffiles` member (deb-conffiles(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conffile {
    /// The path.
    pub path: GuestPath,
    /// Whether the package asks for its removal on upgrade instead of shipping it.
    pub remove_on_upgrade: bool,
}

impl Unpacked {
    /// A control member's bytes.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Arc<[u8]>> {
        self.members.get(name).map(|member| &member.bytes)
    }

    /// Its conffiles in order.
    ///
    /// # Errors
    /// `Corrupt` for a malformed `conffiles` member (which [`unpack`] has refused already).
    pub fn conffiles(&self) -> Result<Vec<Conffile>> {
        control::conffiles(&self.members)
    }

    /// What it says it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            name: self.control.package().to_owned(),
            version: self.control.version().to_owned(),
            architecture: self.control.architecture().to_owned(),
        }
    }

    /// The names of its maintainer scripts, in byte order.
    #[must_use]
    pub fn scripts(&self) -> BTreeSet<&str> {
        ["config", "postinst", "postrm", "preinst", "prerm"]
            .into_iter()
            .filter(|name| self.members.contains_key(*name))
            .collect()
    }
}
