//! An index as it is kept in memory and between runs: what is of use of each paragraph, and where each name is.
//!
//! A paragraph is checked once, when the index is compiled, and read when somebody asks for its name. All of Debian's
//! main (50 MB of text) compiles to about 27 MB.

use std::io::Read;
use std::sync::Arc;

use dormouse_block::{
    Digest, DigestReader, Error, Result, array_at, le_u16, le_u32, le_u64, slice_at,
};
use dormouse_packages::deb822::{MAX_FIELDS, MAX_PARAGRAPH, Paragraph};
use memchr::{memchr, memchr_iter};

use crate::IndexedPackage;
use crate::index::{Draft, Known};

/// Packages of one index. All of Debian's architectures and suites together have fewer.
const MAX_PACKAGES: usize = 4_000_000;
/// Most bytes reserved before anything was read, whatever is expected.
const MAX_RESERVED: u64 = 256 << 20;
/// Bytes read at a time.
const STEP: usize = 1 << 20;
/// What a compiled index begins with; the last byte is the form's version.
const MAGIC: &[u8; 8] = b"DMINDEX\x01";
/// Magic, the index's digest and size, the text's length, the numbers of entries and of provided names.
const HEADER: usize = 8 + 32 + 8 + 8 + 4 + 4;
/// Of one entry: start, length, length of the name.
const ENTRY: usize = 4 + 4 + 2;
/// Of one provided name: start, length, entry.
const PROVIDED: usize = 4 + 2 + 4;
/// Of the digest at the end.
const TRAILER: usize = 32;
/// What every kept paragraph begins with.
const NAME: &[u8] = b"Package: ";

/// Where a paragraph is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    start: u32,
    len: u32,
    name: u16,
}

/// Where a provided name is, and which entry provides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Provided {
    start: u32,
    len: u16,
    entry: u32,
}

/// A compiled index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// The paragraphs, each with its name first, from [`Compiled::text`] on.
    bytes: Arc<Vec<u8>>,
    text: usize,
    text_len: usize,
    /// In the order of names, then as in the index.
    entries: Arc<Vec<Entry>>,
    /// In the order of names.
    provided: Arc<Vec<Provided>>,
}

fn short(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::limit("an index of more than 4 GiB"))
}

/// A paragraph being copied.
struct Copier {
    text: Vec<u8>,
    entries: Vec<Entry>,
    provided: Vec<Provided>,
    /// Where the fields of the paragraph at hand begin; no more of them than tell that there are too many.
    starts: Vec<usize>,
}

impl Copier {
    /// Checks a paragraph, whose fields begin at these places, and keeps what is of use of it.
    fn take(&mut self, paragraph: &[u8], starts: &[usize]) -> Result<()> {
        if self.entries.len() >= MAX_PACKAGES {
            return Err(Error::limit("more than 4000000 packages in one index"));
        }
        let mut draft = Draft::default();
        let mut kept: [Option<(Known, &[u8])>; 32] = [None; 32];
        let mut count = 0_usize;
        // As a rule all of it is text, and one look tells.
        let text = std::str::from_utf8(paragraph).ok();
        let ends = starts.iter().skip(1).copied().chain([paragraph.len()]);
        for (nth, (start, end)) in starts.iter().zip(ends).enumerate() {
            if nth >= MAX_FIELDS {
                return Err(draft.named(Error::limit("a paragraph of too many fields")));
            }
            let field = paragraph.get(*start..end).unwrap_or_default();
            let (name, value) = split_name(field).map_err(|error| draft.named(error))?;
            let Some(known) = Known::named(name) else {
                continue;
            };
            let value = match text {
                Some(text) => text
                    .get(start.saturating_add(name.len()).saturating_add(1)..end)
                    .map(str::trim_ascii),
                None => std::str::from_utf8(value).ok(),
            };
            draft
                .set(known, value)
                .map_err(|error| draft.named(error))?;
            let value = value.unwrap_or_default().as_bytes();
            if known != Known::Package
                && let Some(slot) = kept.get_mut(count)
            {
                *slot = Some((known, value));
                count = count.saturating_add(1);
            }
        }
        let name = draft.check().map_err(|error| draft.named(error))?;
        let start = short(self.text.len())?;
        let number = short(self.entries.len())?;
        self.text.extend_from_slice(NAME);
        self.text.extend_from_slice(name.as_bytes());
        self.text.push(b'\n');
        for (known, value) in kept.into_iter().flatten() {
            self.text.extend_from_slice(known.as_str().as_bytes());
            self.text.extend_from_slice(b": ");
            let at = self.text.len();
            self.text.extend_from_slice(value);
            self.text.push(b'\n');
            if known == Known::Provides {
                self.provide(at, value, number)?;
            }
        }
        let name = u16::try_from(name.len()).map_err(|_| Error::limit("a name too long"))?;
        let len = short(self.text.len())?.saturating_sub(start);
        self.entries.push(Entry { start, len, name });
        Ok(())
    }

    /// A field begins at this place of the paragraph.
    fn begin_field(&mut self, at: usize) {
        if self.starts.len() <= MAX_FIELDS {
            self.starts.push(at);
        }
    }

    /// Takes a paragraph, unless it is nothing but blanks.
    fn take_one(&mut self, paragraph: &[u8]) -> Result<()> {
        let starts = std::mem::take(&mut self.starts);
        if !paragraph.trim_ascii_start().is_empty() {
            self.take(paragraph, &starts)?;
        }
        self.starts = starts;
        self.starts.clear();
        Ok(())
    }

    fn provide(&mut self, at: usize, value: &[u8], entry: u32) -> Result<()> {
        let mut from = 0_usize;
        for part in value.split(|&byte| byte == b',') {
            let blanks = part.len().saturating_sub(part.trim_ascii_start().len());
            let name = part.trim_ascii_start();
            let end = name
                .iter()
                .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'(' | b':' | b'['))
                .unwrap_or(name.len());
            let start = short(at.saturating_add(from).saturating_add(blanks))?;
            if let (Ok(len), true) = (u16::try_from(end), end > 0) {
                self.provided.push(Provided { start, len, entry });
            }
            from = from.saturating_add(part.len()).saturating_add(1);
        }
        Ok(())
    }
}

/// The name of a field and its value.
fn split_name(field: &[u8]) -> Result<(&[u8], &[u8])> {
    let bad = || {
        let part = field.get(..field.len().min(60)).unwrap_or_default();
        Error::corrupt(format!(
            "a line without a field name: {:?}",
            String::from_utf8_lossy(part.trim_ascii_end())
        ))
    };
    let colon = memchr(b':', field).ok_or_else(bad)?;
    let (name, value) = field.split_at_checked(colon).ok_or_else(bad)?;
    let starts_well = name
        .first()
        .is_some_and(|first| !matches!(first, b'-' | b'#'));
    if !starts_well || !name.iter().all(u8::is_ascii_graphic) {
        return Err(bad());
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

impl Compiled {
    /// Reads the text of an index, of which about `expected` bytes will be kept.
    ///
    /// # Errors
    /// `Corrupt` for a paragraph that does not read, `Limit` past a named bound, and the stream's own.
    pub(crate) fn read(mut input: impl Read, expected: u64) -> Result<Self> {
        let reserved = usize::try_from(expected.min(MAX_RESERVED)).unwrap_or_default();
        let mut copier = Copier {
            text: Vec::with_capacity(reserved),
            entries: Vec::new(),
            provided: Vec::new(),
            starts: Vec::new(),
        };
        let mut buf = vec![0; STEP];
        let mut held = 0_usize;
        loop {
            if held == buf.len() {
                if buf.len() >= MAX_PARAGRAPH {
                    return Err(Error::limit("a paragraph of more than 16 MiB"));
                }
                buf.resize(buf.len().saturating_mul(2), 0);
            }
            let space = buf.get_mut(held..).unwrap_or_default();
            let n = match input.read(space) {
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("cannot read the index", error)),
            };
            held = held.saturating_add(n);
            let bytes = buf.get(..held).unwrap_or_default();
            // Enough for a while: a paragraph is looked for again when a step is full or the stream at its end.
            if n > 0 && held < buf.len() {
                continue;
            }
            let done = take_whole(&mut copier, bytes, n == 0)?;
            if n == 0 {
                break;
            }
            // What holds no end of a paragraph is looked through again, twice as long.
            buf.copy_within(done..held, 0);
            held = held.saturating_sub(done);
        }
        Ok(Self::of(copier))
    }

    fn of(copier: Copier) -> Self {
        let Copier {
            mut text,
            entries,
            mut provided,
            starts: _,
        } = copier;
        text.shrink_to_fit();
        let name = |entry: &Entry| name_of(&text, 0, *entry);
        // Indices are in order as a rule; then this is one pass.
        let mut order: Vec<u32> = (0..u32::try_from(entries.len()).unwrap_or(u32::MAX)).collect();
        let at = |number: &u32| {
            usize::try_from(*number)
                .ok()
                .and_then(|at| entries.get(at))
                .copied()
        };
        order.sort_by_key(|number| at(number).map(|entry| name(&entry)));
        let mut place = vec![0_u32; order.len()];
        for (new, old) in order.iter().enumerate() {
            let old = usize::try_from(*old).unwrap_or(usize::MAX);
            if let (Some(slot), Ok(new)) = (place.get_mut(old), u32::try_from(new)) {
                *slot = new;
            }
        }
        let sorted: Vec<Entry> = order.iter().filter_map(at).collect();
        for one in &mut provided {
            let old = usize::try_from(one.entry).unwrap_or(usize::MAX);
            one.entry = place.get(old).copied().unwrap_or(u32::MAX);
        }
        // By their first bytes as a number, which tell most of them apart.
        let given = |one: &Provided| bytes_at(&text, 0, one.start, one.len);
        let mut keyed: Vec<_> = provided
            .iter()
            .map(|one| (first_bytes(given(one)), *one))
            .collect();
        keyed.sort_unstable_by(|(a_first, a), (b_first, b)| {
            a_first
                .cmp(b_first)
                .then_with(|| given(a).cmp(given(b)))
                .then_with(|| a.entry.cmp(&b.entry))
        });
        let provided = keyed.into_iter().map(|(_, one)| one).collect();
        Self {
            text: 0,
            text_len: text.len(),
            bytes: Arc::new(text),
            entries: Arc::new(sorted),
            provided: Arc::new(provided),
        }
    }

    /// Packages in it.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn name(&self, entry: Entry) -> &[u8] {
        name_of(&self.bytes, self.text, entry)
    }

    /// The numbers of the entries of a name.
    pub(crate) fn named(&self, name: &str) -> std::ops::Range<usize> {
        let start = self
            .entries
            .partition_point(|entry| self.name(*entry) < name.as_bytes());
        let end = self
            .entries
            .partition_point(|entry| self.name(*entry) <= name.as_bytes());
        start..end
    }

    /// The numbers of the entries that provide a name, in their order.
    pub(crate) fn providing(&self, name: &str) -> Vec<usize> {
        let given = |one: &Provided| bytes_at(&self.bytes, self.text, one.start, one.len);
        let start = self
            .provided
            .partition_point(|one| given(one) < name.as_bytes());
        let rest = self.provided.get(start..).unwrap_or_default();
        let mut out: Vec<usize> = rest
            .iter()
            .take_while(|one| given(one) == name.as_bytes())
            .filter_map(|one| usize::try_from(one.entry).ok())
            .collect();
        out.dedup();
        out
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// `Corrupt` for a compiled form that is not what was written.
    pub(crate) fn package(&self, number: usize, suite: usize) -> Result<IndexedPackage> {
        let entry = self
            .entries
            .get(number)
            .ok_or_else(|| Error::corrupt("an index without the entry asked for"))?;
        let text = bytes_at(&self.bytes, self.text, entry.start, entry.len);
        IndexedPackage::parse(Paragraph::new(text), suite)
    }

    /// What comes before and after [`Compiled::text`] in the form to keep: the index is of this digest and size.
    ///
    /// # Errors
    /// `Limit` for more than the form holds.
    pub(crate) fn frame(&self, digest: Digest, size: u64) -> Result<(Vec<u8>, Digest)> {
        let mut head = Vec::new();
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(digest.as_bytes());
        head.extend_from_slice(&size.to_le_bytes());
        head.extend_from_slice(&u64::from(short(self.text_len)?).to_le_bytes());
        head.extend_from_slice(&short(self.entries.len())?.to_le_bytes());
        head.extend_from_slice(&short(self.provided.len())?.to_le_bytes());
        for entry in self.entries.iter() {
            head.extend_from_slice(&entry.start.to_le_bytes());
            head.extend_from_slice(&entry.len.to_le_bytes());
            head.extend_from_slice(&entry.name.to_le_bytes());
        }
        for one in self.provided.iter() {
            head.extend_from_slice(&one.start.to_le_bytes());
            head.extend_from_slice(&one.len.to_le_bytes());
            head.extend_from_slice(&one.entry.to_le_bytes());
        }
        let mut whole = DigestReader::new(head.as_slice().chain(self.text()));
        std::io::copy(&mut whole, &mut std::io::sink())
            .map_err(|error| Error::io("cannot digest the index", error))?;
        let (trailer, _) = whole.finish();
        Ok((head, trailer))
    }

    /// The paragraphs that are kept.
    pub(crate) fn text(&self) -> &[u8] {
        self.bytes
            .get(self.text..self.text.saturating_add(self.text_len))
            .unwrap_or_default()
    }

    /// Reads the kept form of the index of this digest and size; `None` when it is another's or damaged.
    pub(crate) fn from_kept(bytes: Vec<u8>, digest: Digest, size: u64) -> Option<Self> {
        let body = bytes.len().checked_sub(TRAILER)?;
        let (kept, trailer) = bytes.split_at_checked(body)?;
        if Digest::of(kept).as_bytes() != trailer {
            return None;
        }
        let read = || -> Result<Option<Self>> {
            if slice_at(kept, 0, 8)? != MAGIC
                || array_at::<32>(kept, 8)? != *digest.as_bytes()
                || le_u64(kept, 40)? != size
            {
                return Ok(None);
            }
            let wide = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
            let text_len = usize::try_from(le_u64(kept, 48)?).unwrap_or(usize::MAX);
            let (entry_count, provided_count) = (wide(le_u32(kept, 56)?), wide(le_u32(kept, 60)?));
            let first = HEADER;
            let second = first.saturating_add(entry_count.saturating_mul(ENTRY));
            let text = second.saturating_add(provided_count.saturating_mul(PROVIDED));
            if text.saturating_add(text_len) != kept.len() {
                return Ok(None);
            }
            let entries = slice_at(kept, first, second.saturating_sub(first))?
                .chunks_exact(ENTRY)
                .map(|one| {
                    Ok(Entry {
                        start: le_u32(one, 0)?,
                        len: le_u32(one, 4)?,
                        name: le_u16(one, 8)?,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            let provided = slice_at(kept, second, text.saturating_sub(second))?
                .chunks_exact(PROVIDED)
                .map(|one| {
                    Ok(Provided {
                        start: le_u32(one, 0)?,
                        len: le_u16(one, 4)?,
                        entry: le_u32(one, 6)?,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            Ok(Some(Self {
                bytes: Arc::default(),
                text,
                text_len,
                entries: Arc::new(entries),
                provided: Arc::new(provided),
            }))
        };
        let mut compiled = read().ok().flatten()?;
        compiled.bytes = Arc::new(bytes);
        Some(compiled)
    }
}

fn bytes_at(bytes: &[u8], base: usize, start: u32, len: impl Into<u64>) -> &[u8] {
    let start = usize::try_from(start)
        .unwrap_or(usize::MAX)
        .saturating_add(base);
    let len = usize::try_from(len.into()).unwrap_or(usize::MAX);
    bytes
        .get(start..start.saturating_add(len))
        .unwrap_or_default()
}

fn name_of(bytes: &[u8], base: usize, entry: Entry) -> &[u8] {
    bytes_at(
        bytes,
        base.saturating_add(NAME.len()),
        entry.start,
        entry.name,
    )
}

/// Takes every whole paragraph of `bytes`; how many bytes those were. At the end of the stream the last is whole too.
fn take_whole(copier: &mut Copier, bytes: &[u8], at_end: bool) -> Result<usize> {
    let mut start = 0_usize;
    let mut line = 0_usize;
    copier.starts.clear();
    for newline in memchr_iter(b'\n', bytes) {
        let next = newline.saturating_add(1);
        match bytes.get(line) {
            Some(b'!'..=b'~') => copier.begin_field(line.saturating_sub(start)),
            // Nothing but blanks.
            _ if bytes
                .get(line..newline)
                .is_some_and(|line| line.iter().all(u8::is_ascii_whitespace)) =>
            {
                copier.take_one(bytes.get(start..line).unwrap_or_default())?;
                start = next;
            }
            Some(b' ' | b'\t') if line > start => {}
            _ => copier.begin_field(line.saturating_sub(start)),
        }
        line = next;
    }
    if at_end {
        if line < bytes.len() && (line == start || !matches!(bytes.get(line), Some(b' ' | b'\t'))) {
            copier.begin_field(line.saturating_sub(start));
        }
        copier.take_one(bytes.get(start..).unwrap_or_default())?;
        start = bytes.len();
    }
    Ok(start)
}

/// The first sixteen bytes as a number that sorts as they do.
fn first_bytes(name: &[u8]) -> u128 {
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(name) {
        *to = *from;
    }
    u128::from_be_bytes(first)
}
