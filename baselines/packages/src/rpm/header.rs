//! The header of a package, as databases and package files hold it: an index of tags over a store of values.

use dormouse_block::{Error, Result, array_at, be_u16, be_u32, be_u64, slice_at};

use super::MAX_HEADER;

/// Bytes of an index entry: tag, type, offset, count.
const ENTRY: usize = 16;
/// Entries of one header: rpm's own bound (`HEADER_TAGS_MAX`). Real ones have about a hundred.
const MAX_ENTRIES: usize = 65_535;
/// Files of one package. The largest known has 200,000.
const MAX_FILES: usize = 2_000_000;

/// Tags, by rpm's own names.
pub(super) mod tag {
    pub(in crate::rpm) const HEADER_SIGNATURES: u32 = 62;
    pub(in crate::rpm) const HEADER_IMMUTABLE: u32 = 63;
    pub(in crate::rpm) const HEADER_I18N_TABLE: u32 = 100;
    pub(in crate::rpm) const SIG_PGP: u32 = 259;
    pub(in crate::rpm) const SIG_GPG: u32 = 262;
    pub(in crate::rpm) const DSA_HEADER: u32 = 267;
    pub(in crate::rpm) const RSA_HEADER: u32 = 268;
    pub(in crate::rpm) const OPENPGP: u32 = 278;
    pub(in crate::rpm) const NAME: u32 = 1000;
    pub(in crate::rpm) const VERSION: u32 = 1001;
    pub(in crate::rpm) const RELEASE: u32 = 1002;
    pub(in crate::rpm) const EPOCH: u32 = 1003;
    pub(in crate::rpm) const INSTALL_TIME: u32 = 1008;
    pub(in crate::rpm) const SIZE: u32 = 1009;
    pub(in crate::rpm) const VENDOR: u32 = 1011;
    pub(in crate::rpm) const ARCH: u32 = 1022;
    pub(in crate::rpm) const OLD_FILE_NAMES: u32 = 1027;
    pub(in crate::rpm) const FILE_STATES: u32 = 1029;
    pub(in crate::rpm) const SOURCE_RPM: u32 = 1044;
    pub(in crate::rpm) const DIR_INDEXES: u32 = 1116;
    pub(in crate::rpm) const BASE_NAMES: u32 = 1117;
    pub(in crate::rpm) const DIR_NAMES: u32 = 1118;
    pub(in crate::rpm) const LONG_SIZE: u32 = 5009;
    pub(in crate::rpm) const MODULARITY_LABEL: u32 = 5096;
}

/// Types of values, and the bytes of one where that is fixed.
const CHAR: u32 = 1;
const INT8: u32 = 2;
const INT16: u32 = 3;
const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;
const BIN: u32 = 7;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// One entry of the index.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    kind: u32,
    offset: usize,
    count: usize,
}

/// A header, its index checked: every value lies within the store.
///
/// Source: rpm's docs/manual/format_header.md and `hdrblobVerifyInfo` of librpm.
#[derive(Debug, Clone)]
pub struct Header<'a> {
    entries: Vec<Entry>,
    store: &'a [u8],
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File<'a> {
    /// The folder, with a slash at its end.
    pub directory: &'a [u8],
    /// The name within it.
    pub name: &'a [u8],
    /// Whether it was installed: neither left out by choice, nor of another processor's kind, nor replaced.
    pub installed: bool,
}

impl<'a> Header<'a> {
    /// Reads the index of a header without a magic number before it, as databases hold it.
    ///
    /// # Errors
    /// `Corrupt` for an index that does not add up or a value outside the store, `Limit` for more than 65,535 entries
    /// or 64 MiB, `Unsupported` for a type of values that is not known.
    pub fn parse(blob: &'a [u8]) -> Result<Self> {
        if blob.len() > MAX_HEADER {
            return Err(Error::limit(format!("a header of {} bytes", blob.len())));
        }
        let count = usize::try_from(be_u32(blob, 0)?).unwrap_or(usize::MAX);
        let length = usize::try_from(be_u32(blob, 4)?).unwrap_or(usize::MAX);
        if count == 0 || count > MAX_ENTRIES {
            return Err(Error::limit(format!("a header of {count} entries")));
        }
        let index = slice_at(blob, 8, count.saturating_mul(ENTRY))?;
        let store = slice_at(blob, index.len().saturating_add(8), length)?;
        if index.len().saturating_add(length).saturating_add(8) != blob.len() {
            return Err(Error::corrupt("a header with something after it"));
        }
        let (raw, _) = index.as_chunks::<ENTRY>();
        let mut entries = Vec::with_capacity(count);
        for (at, raw) in raw.iter().enumerate() {
            let entry = Entry {
                tag: be_u32(raw, 0)?,
                kind: be_u32(raw, 4)?,
                offset: usize::try_from(be_u32(raw, 8)?).unwrap_or(usize::MAX),
                count: usize::try_from(be_u32(raw, 12)?).unwrap_or(usize::MAX),
            };
            check(&entry, store)?;
            let is_region =
                (tag::HEADER_SIGNATURES - 1..=tag::HEADER_IMMUTABLE).contains(&entry.tag);
            if at == 0 && is_region {
                check_region(&entry, store, count)?;
            } else if is_region {
                return Err(Error::corrupt("a header's region is not its first entry"));
            }
            entries.push(entry);
        }
        Ok(Self { entries, store })
    }

    /// What was added since stands behind the immutable region and replaces what that says, so the last one counts.
    fn entry(&self, tag: u32) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.tag == tag)
    }

    fn value(&self, entry: &Entry) -> &'a [u8] {
        self.store.get(entry.offset..).unwrap_or_default()
    }

    /// The tags that it has, in the index's order.
    pub fn tags(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|entry| entry.tag)
    }

    /// The text of a tag; the first of several, which of translations is the untranslated one.
    ///
    /// # Errors
    /// `Corrupt` for a text that does not end.
    pub fn text(&self, tag: u32) -> Result<Option<&'a [u8]>> {
        Ok(self.texts(tag)?.and_then(|mut texts| texts.next()))
    }

    /// The text of a tag in one language, such as `de`, as the header's own table names them; the untranslated one where
    /// the table does not name it.
    ///
    /// # Errors
    /// As [`Header::text`].
    pub fn translated(&self, tag: u32, language: &[u8]) -> Result<Option<&'a [u8]>> {
        let at = self
            .texts(tag::HEADER_I18N_TABLE)?
            .and_then(|mut table| table.position(|known| known == language));
        let Some(texts) = self.texts(tag)? else {
            return Ok(None);
        };
        let all: Vec<&[u8]> = texts.take(at.unwrap_or(0).saturating_add(1)).collect();
        Ok(at.and_then(|at| all.get(at)).or(all.first()).copied())
    }

    /// The texts of a tag; `None` when it has none, or values of another type.
    ///
    /// # Errors
    /// `Corrupt` for a text that does not end.
    pub fn texts(&self, tag: u32) -> Result<Option<impl Iterator<Item = &'a [u8]> + use<'a>>> {
        let Some(entry) = self.entry(tag) else {
            return Ok(None);
        };
        if !matches!(entry.kind, STRING | STRING_ARRAY | I18N_STRING) {
            return Ok(None);
        }
        let value = self.value(entry);
        let ends = value.iter().filter(|&&byte| byte == 0).take(entry.count);
        if ends.count() < entry.count {
            return Err(Error::corrupt(format!(
                "the text of tag {tag} does not end"
            )));
        }
        Ok(Some(value.split(|&byte| byte == 0).take(entry.count)))
    }

    /// The first whole number of a tag, whatever its width.
    #[must_use]
    pub fn number(&self, tag: u32) -> Option<u64> {
        self.numbers(tag)?.next()
    }

    /// The whole numbers of a tag, whatever their width; `None` when it has none.
    #[must_use]
    pub fn numbers(&self, tag: u32) -> Option<impl Iterator<Item = u64> + use<'a>> {
        let entry = *self.entry(tag)?;
        let width = width(entry.kind).filter(|_| entry.kind <= INT64)?;
        let value = self.value(&entry);
        Some((0..entry.count).map_while(move |at| {
            let one = slice_at(value, at.checked_mul(width)?, width).ok()?;
            match width {
                1 => one.first().copied().map(u64::from),
                2 => be_u16(one, 0).ok().map(u64::from),
                4 => be_u32(one, 0).ok().map(u64::from),
                _ => be_u64(one, 0).ok(),
            }
        }))
    }

    /// The bytes of a tag that holds bytes.
    #[must_use]
    pub fn bytes(&self, tag: u32) -> Option<&'a [u8]> {
        let entry = self.entry(tag).filter(|entry| entry.kind == BIN)?;
        self.value(entry).get(..entry.count)
    }

    /// The files of the package, in its own order.
    ///
    /// # Errors
    /// `Corrupt` when the lists of folders, names and indices do not fit together; `Limit` for more than two million.
    pub fn files(&self) -> Result<Vec<File<'a>>> {
        let states: Vec<u64> = self
            .numbers(tag::FILE_STATES)
            .map(|states| states.take(MAX_FILES).collect())
            .unwrap_or_default();
        // Normal, or one that is missing from a list: 0 is "installed".
        let installed = |at: usize| states.get(at).is_none_or(|state| *state == 0);
        let too_many = || Error::limit(format!("a package of more than {MAX_FILES} files"));
        if let Some(paths) = self.texts(tag::OLD_FILE_NAMES)? {
            let files = paths.enumerate().take(MAX_FILES).map(|(at, path)| {
                let slash = path.iter().rposition(|&byte| byte == b'/');
                let split = slash.map_or(0, |at| at.saturating_add(1));
                let (directory, name) = path.split_at_checked(split).unwrap_or((&[], path));
                File {
                    directory,
                    name,
                    installed: installed(at),
                }
            });
            return Ok(files.collect());
        }
        let (Some(names), Some(directories), Some(indices)) = (
            self.texts(tag::BASE_NAMES)?,
            self.texts(tag::DIR_NAMES)?,
            self.numbers(tag::DIR_INDEXES),
        ) else {
            return Ok(Vec::new());
        };
        let directories: Vec<&[u8]> = directories.take(MAX_FILES).collect();
        let mut files = Vec::new();
        let mut indices = indices;
        for (at, name) in names.enumerate() {
            if at >= MAX_FILES {
                return Err(too_many());
            }
            let directory = indices
                .next()
                .and_then(|index| usize::try_from(index).ok())
                .and_then(|index| directories.get(index))
                .ok_or_else(|| {
                    Error::corrupt("a file in a folder that the header does not name")
                })?;
            files.push(File {
                directory,
                name,
                installed: installed(at),
            });
        }
        Ok(files)
    }
}

/// Bytes of one value of a type; `None` for texts.
fn width(kind: u32) -> Option<usize> {
    match kind {
        CHAR | INT8 | BIN => Some(1),
        INT16 => Some(2),
        INT32 => Some(4),
        INT64 => Some(8),
        _ => None,
    }
}

/// Whether a value lies within the store, where its type may lie.
fn check(entry: &Entry, store: &[u8]) -> Result<()> {
    let bad = |what: &str| {
        Err(Error::corrupt(format!(
            "the value of tag {} {what}",
            entry.tag
        )))
    };
    if !matches!(entry.kind, 0..=I18N_STRING) {
        return Err(Error::unsupported(format!(
            "the value of tag {} is of the type {}",
            entry.tag, entry.kind
        )));
    }
    if entry.offset > store.len() || entry.count > store.len() {
        return bad("lies outside the header");
    }
    if entry.kind == STRING && entry.count != 1 {
        return bad("is several texts where one may be");
    }
    if let Some(width) = width(entry.kind) {
        let length = entry.count.saturating_mul(width);
        if entry.offset.saturating_add(length) > store.len() {
            return bad("lies outside the header");
        }
        if entry.kind != BIN && entry.offset.checked_rem(width) != Some(0) {
            return bad("is not aligned");
        }
    }
    Ok(())
}

/// Whether the immutable region has the entries that its trailer says, itself included.
fn check_region(entry: &Entry, store: &[u8], entries: usize) -> Result<()> {
    if entry.kind != BIN || entry.count != ENTRY {
        return Err(Error::corrupt("a header's region has no trailer"));
    }
    let trailer: [u8; ENTRY] = array_at(store, entry.offset)?;
    // The trailer's offset is that of its index's end, backwards.
    let back = be_u32(&trailer, 8)?.wrapping_neg();
    let length = usize::try_from(back).unwrap_or(usize::MAX);
    if length % ENTRY != 0 || length == 0 || length / ENTRY > entries {
        return Err(Error::corrupt(format!(
            "a header's region of {length} bytes of index"
        )));
    }
    Ok(())
}
