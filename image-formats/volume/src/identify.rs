//! What a volume holds, by its first bytes: enough to name what is not read.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, Source, le_u32};
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
    pages: BTreeMap<u64, Vec<u8>>,
    failure: Option<Error>,
}

impl<'a> Peek<'a> {
    const PAGE: u64 = 4096;

    fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            pages: BTreeMap::new(),
            failure: None,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// The `len` bytes at `offset`; `None` when they are not there or cannot be read.
    pub(crate) fn bytes(&mut self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        if end > self.source.len() {
            return None;
        }
        let mut out = Vec::with_capacity(len);
        let mut at = offset;
        while at < end {
            let number = at / Self::PAGE;
            let start = number.saturating_mul(Self::PAGE);
            if !self.pages.contains_key(&number) {
                let size = Self::PAGE.min(self.source.len().saturating_sub(start));
                let mut page = vec![0; usize::try_from(size).ok()?];
                if let Err(error) = self.source.read_exact_at(start, &mut page) {
                    self.failure.get_or_insert(error);
                    return None;
                }
                self.pages.insert(number, page);
            }
            let page = self.pages.get(&number)?;
            let from = usize::try_from(at.saturating_sub(start)).ok()?;
            let to = usize::try_from(end.saturating_sub(start).min(Self::PAGE)).ok()?;
            out.extend_from_slice(page.get(from..to)?);
            at = start.saturating_add(Self::PAGE);
        }
        Some(out)
    }

    /// Whether `magic` stands at `offset`.
    pub(crate) fn is(&mut self, offset: u64, magic: &[u8]) -> bool {
        self.bytes(offset, magic.len())
            .is_some_and(|bytes| bytes == magic)
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
