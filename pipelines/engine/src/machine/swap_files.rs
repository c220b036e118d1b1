//! Swap files in which a Linux system may sleep: found where the system itself says that it has them.
//!
//! Files are named by `/etc/fstab` and by units of systemd; where the kernel is to resume from, `resume_offset=` on the
//! command lines of boot menus says in pages of the volume, which holds for files on any filesystem.

use std::collections::BTreeSet;
use std::sync::Arc;

use dormouse_block::{Bytes, Error, ErrorKind, Gap, GuestPath, Locator, Result, Source, window};
use dormouse_filesystem::{Follow, Guest, NodeKind};
use dormouse_volume::{Volume, hibernation_signature};

use super::evidence::{PowerEvidence, PowerSign};

/// Bytes of a swap file's head: the signature stands at the end of the first page, whatever a page's size.
const HEAD: usize = 64 << 10;
/// Swap files of one system.
const MAX_FILES: usize = 64;
/// Different places to resume from that boot menus name.
const MAX_OFFSETS: usize = 64;
/// Longest text that is read for names and places.
const MAX_TEXT: u64 = 4 << 20;
/// Files of one folder that are read for them.
const MAX_ENTRIES: usize = 256;
/// Where distributions put a swap file by themselves.
const USUAL: [&str; 4] = ["/swapfile", "/swap.img", "/swap/swapfile", "/var/swap"];
/// What names command lines of kernels.
const COMMAND_LINES: [&str; 9] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/extlinux.conf",
    "/boot/extlinux/extlinux.conf",
    "/boot/cmdline.txt",
    "/etc/default/grub",
    "/etc/kernel/cmdline",
    "/etc/initramfs-tools/conf.d/resume",
    "/boot/grub/custom.cfg",
];
/// Folders of texts that name them.
const FOLDERS: [&str; 4] = [
    "/boot/loader/entries",
    "/boot/efi/loader/entries",
    "/etc/default/grub.d",
    "/etc/cmdline.d",
];
/// Where units of swap space are.
const UNITS: [&str; 1] = ["/etc/systemd/system"];

/// What was found.
#[derive(Default)]
pub(crate) struct SwapFiles {
    /// The heads of swap files, for the proof that a disk is cold.
    pub(crate) heads: Vec<Arc<dyn Source>>,
    /// The sleepers among them.
    pub(crate) evidence: Vec<PowerEvidence>,
    /// What could not be looked at.
    pub(crate) gaps: Vec<Gap>,
}

impl SwapFiles {
    /// Looks at the swap files of `guest`, whose volumes are among `volumes`.
    ///
    /// # Errors
    /// `Io` and `Cancelled`.
    pub(crate) fn of<'v>(
        guest: &Guest,
        volumes: impl Iterator<Item = &'v Volume> + Clone,
    ) -> Result<Self> {
        let mut found = Self::default();
        for path in found.ok(files(guest))?.unwrap_or_default() {
            let head = head(guest, &path);
            let Some((volume, head)) = found.ok(head)?.flatten() else {
                continue;
            };
            found.look(&format!("{volume}:{path}"), head, 0)?;
        }
        let offsets = found.ok(offsets(guest))?.unwrap_or_default();
        let mounted: BTreeSet<&str> = guest
            .mounts()
            .iter()
            .map(|mount| mount.volume.as_str())
            .collect();
        for volume in volumes.filter(|volume| mounted.contains(volume.info.name.as_str())) {
            for offset in &offsets {
                // A page of the resuming processor: 4 KiB wherever this is used, but for arm64 and ppc64 with 16 or 64.
                for page in [4096_u64, 16_384, 65_536] {
                    let Some(at) = offset.checked_mul(page) else {
                        continue;
                    };
                    let len = volume.source.len().saturating_sub(at).min(page);
                    if len < page {
                        continue;
                    }
                    let head = found.ok(window(volume.source.clone(), at, len))?;
                    let Some(head) = head else { continue };
                    found.look(&volume.info.name, Arc::new(head), at)?;
                }
            }
        }
        found.evidence.sort();
        found.evidence.dedup();
        Ok(found)
    }

    /// Looks at the head of swap space that begins at `base` of `place`.
    fn look(&mut self, place: &str, head: Arc<dyn Source>, base: u64) -> Result<()> {
        let signature = hibernation_signature(&*head);
        if let Some(Some((at, magic))) = self.ok(signature)? {
            let mut sign = PowerEvidence::magic(
                PowerSign::Hibernated,
                place,
                (base.saturating_add(at), magic),
                "Linux swap file",
            );
            sign.says
                .push("a system sleeps in it, with its memory".to_owned());
            self.evidence.push(sign);
            self.heads.push(head);
        }
        Ok(())
    }

    /// What was read, or a gap that hides no packages: but whoever changes the disk must know.
    fn ok<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) => {
                Err(error)
            }
            Err(error) => {
                let error = Error::new(
                    error.kind(),
                    format!("a swap file, in which the system may sleep: {error}"),
                );
                self.gaps.push(Gap {
                    may_hide_packages: false,
                    ..Gap::from_error(&error, &Locator::default())
                });
                Ok(None)
            }
        }
    }
}

/// The name of the file's volume, and the first bytes of the file; `None` when there is no such file.
fn head(guest: &Guest, path: &GuestPath) -> Result<Option<(String, Arc<dyn Source>)>> {
    let Some(found) = guest.resolve(path, Follow::Links)? else {
        return Ok(None);
    };
    let Some(mount) = guest.mounts().get(found.mount) else {
        return Ok(None);
    };
    if mount.tree.metadata(found.node)?.kind != NodeKind::File {
        return Ok(None);
    }
    let mut head = vec![0; HEAD];
    let read = mount.tree.read_at(found.node, 0, &mut head)?;
    head.truncate(read);
    Ok(Some((mount.volume.clone(), Arc::new(Bytes::new(head)))))
}

fn text(guest: &Guest, path: &str) -> Result<String> {
    let bytes = guest.read(&known(path)?, MAX_TEXT)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn known(path: &str) -> Result<GuestPath> {
    GuestPath::new(path).map_err(|error| Error::corrupt("bad path").because(error))
}

/// The texts of a folder whose names end so.
fn texts(guest: &Guest, folder: &str, ending: &str) -> Result<Vec<String>> {
    let Some(entries) = guest.read_dir(&known(folder)?)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for entry in entries.iter().take(MAX_ENTRIES) {
        let name = String::from_utf8_lossy(&entry.name);
        if name.ends_with(ending) && entry.kind.is_none_or(|kind| kind == NodeKind::File) {
            all.push(text(guest, &format!("{folder}/{name}"))?);
        }
    }
    Ok(all)
}

/// The swap files that the system names, and those that distributions make.
fn files(guest: &Guest) -> Result<BTreeSet<GuestPath>> {
    let mut names: BTreeSet<String> = USUAL.iter().map(|&name| name.to_owned()).collect();
    for line in text(guest, "/etc/fstab")?.lines() {
        let mut fields = line.split_ascii_whitespace();
        if let (Some(name), Some(_), Some("swap")) = (fields.next(), fields.next(), fields.next()) {
            names.insert(name.replace("\\040", " "));
        }
    }
    for folder in UNITS {
        for unit in texts(guest, folder, ".swap")? {
            let named = unit
                .lines()
                .filter_map(|line| line.trim().strip_prefix("What="));
            names.extend(named.map(str::to_owned));
        }
    }
    let files = names
        .into_iter()
        .filter(|name| name.starts_with('/') && !name.starts_with("/dev/"));
    Ok(files
        .filter_map(|name| GuestPath::new(name).ok())
        .take(MAX_FILES)
        .collect())
}

/// Every `resume_offset=` of the command lines.
fn offsets(guest: &Guest) -> Result<BTreeSet<u64>> {
    let mut all = String::new();
    for path in COMMAND_LINES {
        all.push_str(&text(guest, path)?);
        all.push('\n');
    }
    for folder in FOLDERS {
        for text in texts(guest, folder, "")? {
            all.push_str(&text);
            all.push('\n');
        }
    }
    let places = all.split("resume_offset=").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
    });
    Ok(places
        .filter(|place| *place > 0)
        .take(MAX_OFFSETS)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_filesystem::MemoryTree;

    fn swap(magic: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 8192];
        head[4086..4086 + magic.len()].copy_from_slice(magic);
        head
    }

    fn found(tree: MemoryTree) -> SwapFiles {
        SwapFiles::of(&Guest::of(tree), std::iter::empty()).unwrap()
    }

    #[test]
    fn swap_files_are_found_by_fstab_by_units_and_by_their_usual_names() {
        for name in ["/swapfile", "/data/my swap", "/srv/swap0"] {
            let mut tree = MemoryTree::new();
            tree.file(
                "/etc/fstab",
                b"/data/my\\040swap none swap sw 0 0\n/dev/sda2 none swap sw 0 0\n",
            )
            .file(
                "/etc/systemd/system/srv-swap0.swap",
                b"[Swap]\nWhat=/srv/swap0\n",
            )
            .file(name, &swap(b"S1SUSPEND"));
            let found = found(tree);
            assert_eq!(found.evidence.len(), 1, "{name}");
            let sign = &found.evidence[0];
            assert!(sign.place.ends_with(name), "{}", sign.place);
            assert_eq!(
                (sign.offset, sign.magic.as_deref()),
                (Some(4086), Some("S1SUSPEND"))
            );
            assert_eq!(found.heads.len(), 1);
        }
        let mut awake = MemoryTree::new();
        awake.file("/swapfile", &swap(b"SWAPSPACE2"));
        assert!(found(awake).evidence.is_empty());
    }

    #[test]
    fn offsets_of_command_lines_are_read() {
        let mut tree = MemoryTree::new();
        tree.file(
            "/boot/grub/grub.cfg",
            b"linux /vmlinuz root=UUID=1 resume=UUID=1 resume_offset=34816 quiet\n",
        )
        .file("/boot/loader/entries/a.conf", b"options resume_offset=8\n")
        .file(
            "/etc/default/grub",
            b"GRUB_CMDLINE_LINUX=\"resume_offset=34816\"\nresume_offset=\n",
        );
        assert_eq!(
            offsets(&Guest::of(tree)).unwrap(),
            BTreeSet::from([8, 34_816])
        );
    }
}
