//! What a volume holds, by its first bytes: enough to name what is not read.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, Source, le_u32, read_vec_at};
use serde::{Deserialize, Serialize};

use crate::signatures::{SIGNATURES, Usage, sleeper};

/// What the signatures of a volume say. The kinds are blkid's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identified {
    /// `ext4`, `xfs`, `LVM2_member`, `crypto_LUKS`, `swap`, ...
    pub kind: String,
    /// Whether it may hold installed packages, directly or in a layer above.
    pub may_hold_packages: bool,
    /// A system suspended to disk: its memory waits here, and its filesystems must not be changed.
    pub hibernated: bool,
    /// The filesystem was not unmounted: it crashed, or the machine that mounted it sleeps somewhere.
    pub unclean: bool,
}

/// What `source` holds, or `None` when no signature matches.
///
/// # Errors
/// As [`Source::read_exact_at`], when nothing matched and something could not be read.
pub fn identify(source: &dyn Source) -> Result<Option<Identified>> {
    let mut peek = Peek::new(source);
    for signature in SIGNATURES {
        if !(signature.matches)(&mut peek) {
            continue;
        }
        return Ok(Some(Identified {
            kind: signature.kind.to_owned(),
            may_hold_packages: signature.usage == Usage::Files || signature.usage == Usage::Layer,
            hibernated: signature.usage == Usage::Hibernation,
            unclean: unclean(signature.kind, &mut peek),
        }));
    }
    peek.failure.map_or(Ok(None), Err)
}

/// Where in swap space the signature of a suspended system stands, and what it is, in letters; `None` when there is none.
///
/// # Errors
/// As [`Source::read_exact_at`], when nothing was found and something could not be read.
pub fn hibernation_signature(source: &dyn Source) -> Result<Option<(u64, String)>> {
    let mut peek = Peek::new(source);
    match sleeper(&mut peek) {
        Some((at, magic)) => Ok(Some((at, magic.escape_ascii().to_string()))),
        None => peek.failure.map_or(Ok(None), Err),
    }
}

/// Which array of firmware RAID `source` is a member of: the signature's kind, if that is one of `kinds`. It is as
/// [`identify`] has it, and reads little of what carries none of their signatures.
pub(crate) fn firmware_raid(source: &dyn Source, kinds: &[&str]) -> Option<&'static str> {
    let mut peek = Peek::new(source);
    let mut members = SIGNATURES
        .iter()
        .filter(|signature| kinds.contains(&signature.kind));
    if !members.any(|signature| (signature.matches)(&mut peek)) {
        return None;
    }
    let first = SIGNATURES
        .iter()
        .find(|signature| (signature.matches)(&mut peek))?;
    kinds.contains(&first.kind).then_some(first.kind)
}

/// Whether the filesystem's own mark says that it was not unmounted.
fn unclean(kind: &str, peek: &mut Peek<'_>) -> bool {
    match kind {
        // EXT4_FEATURE_INCOMPAT_RECOVER: the journal is to be replayed. ext2 has no journal; bit 0 of s_state says
        // that it was unmounted cleanly.
        "ext3" | "ext4" => peek.u32(1024 + 0x60).is_some_and(|flags| flags & 4 != 0),
        "ext2" => peek
            .u32(1024 + 0x38)
            .is_some_and(|word| word >> 16 & 1 == 0),
        _ => false,
    }
}

/// Reads a source here and there, each page of it once.
pub(crate) struct Peek<'a> {
    source: &'a dyn Source,
    /// Pages that were read at once, by the number of the first.
    runs: BTreeMap<u64, Vec<u8>>,
    failure: Option<Error>,
}

impl<'a> Peek<'a> {
    const PAGE: u64 = 4096;

    fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            runs: BTreeMap::new(),
            failure: None,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// Reads at once the pages from `offset` to `end`, most of which will be asked for, as far as they are not there yet.
    /// What cannot be read so is read page by page when it is asked for.
    pub(crate) fn ahead(&mut self, offset: u64, end: u64) {
        let last = end.min(self.source.len()).div_ceil(Self::PAGE);
        let mut first = offset / Self::PAGE;
        while first < last {
            let mut next = first;
            while next < last && self.known(next).is_none() {
                next = next.saturating_add(1);
            }
            if next > first
                && let Ok(run) = self.read(first, next)
            {
                self.runs.insert(first, run);
            }
            first = next.saturating_add(1);
        }
    }

    /// The pages from `first` to before `next`; the last one of the source may be shorter than the others.
    fn read(&self, first: u64, next: u64) -> Result<Vec<u8>> {
        let start = first.saturating_mul(Self::PAGE);
        let end = next.saturating_mul(Self::PAGE).min(self.source.len());
        let size = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        read_vec_at(self.source, start, size)
    }

    /// The page of this number, if it was read.
    fn known(&self, number: u64) -> Option<&[u8]> {
        let (first, run) = self.runs.range(..=number).next_back()?;
        let from = number.checked_sub(*first)?.checked_mul(Self::PAGE)?;
        let from = usize::try_from(from).ok()?;
        let page = run.get(from..).filter(|page| !page.is_empty())?;
        page.get(..usize::try_from(Self::PAGE).ok()?).or(Some(page))
    }

    /// The page of this number, which is read if it is not there yet; `None` when it cannot be read.
    fn page(&mut self, number: u64) -> Option<&[u8]> {
        if self.known(number).is_none() {
            match self.read(number, number.checked_add(1)?) {
                Ok(page) => {
                    self.runs.insert(number, page);
                }
                Err(error) => {
                    self.failure.get_or_insert(error);
                    return None;
                }
            }
        }
        self.known(number)
    }

    /// Hands the `len` bytes at `offset` to `take`, in one part or several, until it has enough; whether all were handed
    /// over, which they are not when they are not there or cannot be read.
    fn parts(&mut self, offset: u64, len: usize, mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let end = u64::try_from(len)
            .ok()
            .and_then(|len| offset.checked_add(len));
        let Some(end) = end.filter(|end| *end <= self.source.len()) else {
            return false;
        };
        let mut at = offset;
        while at < end {
            let number = at / Self::PAGE;
            let start = number.saturating_mul(Self::PAGE);
            let from = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
            let to = usize::try_from(end.saturating_sub(start).min(Self::PAGE)).unwrap_or(0);
            let part = self.page(number).and_then(|page| page.get(from..to));
            if !part.is_some_and(&mut take) {
                return false;
            }
            at = start.saturating_add(Self::PAGE);
        }
        true
    }

    /// The `len` bytes at `offset`; `None` when they are not there or cannot be read.
    pub(crate) fn bytes(&mut self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let whole = self.parts(offset, len, |part| {
            out.extend_from_slice(part);
            true
        });
        whole.then_some(out)
    }

    /// Whether `magic` stands at `offset`.
    pub(crate) fn is(&mut self, offset: u64, magic: &[u8]) -> bool {
        let mut rest = magic;
        self.parts(offset, magic.len(), |part| {
            rest.strip_prefix(part).is_some_and(|after| {
                rest = after;
                true
            })
        })
    }

    /// Whether `magic` stands `back` bytes before the end.
    pub(crate) fn ends(&mut self, back: u64, magic: &[u8]) -> bool {
        self.len()
            .checked_sub(back)
            .is_some_and(|offset| self.is(offset, magic))
    }

    /// The little-endian 32-bit integer at `offset`.
    pub(crate) fn u32(&mut self, offset: u64) -> Option<u32> {
        le_u32(&self.bytes(offset, 4)?, 0).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use dormouse_block::Bytes;

    use super::*;

    /// Bytes of which some cannot be read, and what was asked for.
    struct Watched {
        bytes: Bytes,
        broken: std::ops::Range<u64>,
        reads: Mutex<Vec<(u64, usize)>>,
    }

    impl Watched {
        fn of(bytes: Vec<u8>, broken: std::ops::Range<u64>) -> Self {
            Self {
                bytes: Bytes::new(bytes),
                broken,
                reads: Mutex::default(),
            }
        }

        fn reads(&self) -> Vec<(u64, usize)> {
            std::mem::take(&mut self.reads.lock().unwrap())
        }
    }

    impl Source for Watched {
        fn len(&self) -> u64 {
            self.bytes.len()
        }

        fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            self.reads.lock().unwrap().push((offset, buf.len()));
            if offset < self.broken.end
                && offset + u64::try_from(buf.len()).unwrap() > self.broken.start
            {
                return Err(Error::corrupt("a bad block").at_offset(offset));
            }
            self.bytes.read_exact_at(offset, buf)
        }
    }

    fn numbered(len: usize) -> Vec<u8> {
        (0..=250).cycle().take(len).collect()
    }

    #[test]
    fn pages_are_read_once_and_neighbours_at_once() {
        let bytes = numbered(5 * 4096 + 100);
        let source = Watched::of(bytes.clone(), 0..0);
        let mut peek = Peek::new(&source);
        assert_eq!(peek.bytes(9000, 10).unwrap(), &bytes[9000..9010]);
        assert_eq!(source.reads(), [(8192, 4096)]);
        peek.ahead(0, 1 << 20);
        assert_eq!(source.reads(), [(0, 8192), (12288, 8192 + 100)]);
        for (at, len) in [
            (0, 4096),
            (4090, 12),
            (8190, 8192),
            (20480, 100),
            (0, 20580),
        ] {
            let want = &bytes[at..at + len];
            let at = u64::try_from(at).unwrap();
            assert_eq!(peek.bytes(at, len).unwrap(), want);
            assert!(peek.is(at, want));
            let mut other = want.to_vec();
            *other.last_mut().unwrap() ^= 1;
            assert!(!peek.is(at, &other));
        }
        assert_eq!(peek.bytes(20480, 101), None);
        assert_eq!(source.reads(), []);
        assert!(peek.failure.is_none());
    }

    #[test]
    fn a_bad_page_hides_no_page_beside_it() {
        let bytes = numbered(4 * 4096);
        let source = Watched::of(bytes.clone(), 5000..5001);
        let mut peek = Peek::new(&source);
        peek.ahead(0, 4 * 4096);
        assert!(peek.failure.is_none());
        assert!(peek.is(0, &bytes[..4096]) && peek.is(8192, &bytes[8192..]));
        assert!(peek.failure.is_none());
        assert!(!peek.is(4096, &bytes[4096..4097]));
        assert!(peek.failure.is_some());
    }

    #[test]
    fn a_disk_without_firmware_raid_is_hardly_read_for_it() {
        let kinds = ["ddf_raid_member", "isw_raid_member"];
        let mut disk = vec![0; 1 << 20];
        let source = Watched::of(disk.clone(), 0..0);
        assert_eq!(firmware_raid(&source, &kinds), None);
        assert_eq!(source.reads(), [((1 << 20) - 4096, 4096)]);
        let at = disk.len() - 1024;
        disk[at..at + 24].copy_from_slice(b"Intel Raid ISM Cfg Sig. ");
        let member = Bytes::new(disk.clone());
        assert_eq!(firmware_raid(&member, &kinds), Some("isw_raid_member"));
        // What comes first is what the disk is.
        disk[..4].copy_from_slice(b"XFSB");
        assert_eq!(firmware_raid(&Bytes::new(disk), &kinds), None);
    }
}
