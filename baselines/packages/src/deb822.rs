//! Paragraphs of `Name: value` fields, as deb822(5) lays them down.
//!
//! Two readers over one idea: [`paragraphs`] walks bytes in memory, [`ParagraphReader`] a stream of any length with one
//! paragraph in memory at a time. Values keep their bytes; only names must be ASCII.

use std::io::BufRead;

use dormouse_block::{Error, Result};
use memchr::memchr;

/// Bytes of one paragraph. The largest real one (a Release file's lists of digests) has under 2 MiB.
pub const MAX_PARAGRAPH: usize = 16 << 20;
/// Fields of one paragraph. Real ones have fewer than 60.
pub const MAX_FIELDS: usize = 1024;

/// One paragraph: its bytes, from its first field to the newline that ends its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paragraph<'a> {
    raw: &'a [u8],
}

/// One field: its name as written, and its value without surrounding blanks, continuation lines included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name, in the file's own spelling; names compare without regard to case.
    pub name: &'a str,
    /// The value; lines after the first keep the blank that they begin with.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Whether this is the field `name`.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        // As a rule it is spelled as deb822(5) spells it.
        self.name == name || self.name.eq_ignore_ascii_case(name)
    }

    /// The value as text.
    ///
    /// # Errors
    /// `Corrupt` when it is not UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.value)
            .map_err(|_| Error::corrupt(format!("the field {} is not UTF-8", self.name)))
    }
}

impl<'a> Paragraph<'a> {
    /// A paragraph of these bytes, which hold no empty line.
    #[must_use]
    pub fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// Its bytes.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Its fields in order; the first malformed line ends the walk with an error.
    #[must_use]
    pub fn fields(&self) -> Fields<'a> {
        Fields {
            rest: self.raw,
            left: MAX_FIELDS,
        }
    }

    /// The value of the field `name`.
    ///
    /// # Errors
    /// `Corrupt` when a line before it is malformed.
    pub fn get(&self, name: &str) -> Result<Option<&'a [u8]>> {
        for field in self.fields() {
            let field = field?;
            if field.is(name) {
                return Ok(Some(field.value));
            }
        }
        Ok(None)
    }
}

/// The walk of [`Paragraph::fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let next = self.take();
        if next.is_err() {
            self.rest = &[];
        }
        Some(next)
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self) -> Result<Field<'a>> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| Error::limit(format!("a paragraph of more than {MAX_FIELDS} fields")))?;
        let (first, mut rest) = line(self.rest);
        let colon = memchr(b':', first).ok_or_else(|| {
            Error::corrupt(format!("a line without a field name: {:?}", excerpt(first)))
        })?;
        let (name, value) = first.split_at_checked(colon).unwrap_or_default();
        if !is_field_name(name) {
            return Err(Error::corrupt(format!(
                "a bad field name: {:?}",
                excerpt(name)
            )));
        }
        let mut length = first.len();
        while rest
            .first()
            .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
        {
            let (more, after) = line(rest);
            length = length.saturating_add(more.len());
            rest = after;
        }
        let whole = self.rest.get(..length).unwrap_or(first);
        let value = whole
            .get(colon..)
            .and_then(|value| value.strip_prefix(b":"))
            .unwrap_or(value);
        self.rest = rest;
        Ok(Field {
            name: std::str::from_utf8(name).map_err(|_| Error::corrupt("a bad field name"))?,
            value: value.trim_ascii(),
        })
    }
}

/// The first line with its newline, and the rest.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at.saturating_add(1));
    bytes.split_at_checked(end).unwrap_or((bytes, &[]))
}

/// deb822(5): printable ASCII but blank and colon, not beginning with `-` or `#`.
fn is_field_name(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
        && name
            .first()
            .is_some_and(|first| !matches!(first, b'-' | b'#'))
}

/// As much of a bad line as a message can bear.
fn excerpt(bytes: &[u8]) -> String {
    let part = bytes.get(..bytes.len().min(60)).unwrap_or_default();
    String::from_utf8_lossy(part.trim_ascii_end()).into_owned()
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// The paragraphs of `bytes` with the offset of each. Lines of nothing but blanks stand between them.
#[must_use]
pub fn paragraphs(bytes: &[u8]) -> Paragraphs<'_> {
    Paragraphs { bytes, at: 0 }
}

/// The walk of [`paragraphs`].
#[derive(Debug, Clone)]
pub struct Paragraphs<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = (usize, Paragraph<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut start = None;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let here = self.at;
            let (next, _) = line(rest);
            self.at = self.at.saturating_add(next.len());
            match start {
                _ if next.is_empty() || (start.is_some() && is_blank(next)) => {
                    let start = start?;
                    return Some((start, Paragraph::new(self.bytes.get(start..here)?)));
                }
                None if !is_blank(next) => start = Some(here),
                _ => {}
            }
        }
    }
}

/// Reads paragraphs from a stream, one in memory at a time.
#[derive(Debug)]
pub struct ParagraphReader<R> {
    inner: R,
    buf: Vec<u8>,
    offset: u64,
}

impl<R: BufRead> ParagraphReader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            buf: Vec::new(),
            offset: 0,
        }
    }

    /// The next paragraph, or `None` at the end.
    ///
    /// # Errors
    /// `Io` when the stream fails, `Limit` for a paragraph of more than [`MAX_PARAGRAPH`] bytes.
    pub fn next_paragraph(&mut self) -> Result<Option<Paragraph<'_>>> {
        self.buf.clear();
        loop {
            let start = self.buf.len();
            let read = self.read_line()?;
            let line = self.buf.get(start..).unwrap_or_default();
            if read == 0 || is_blank(line) {
                self.buf.truncate(start);
                if start > 0 {
                    return Ok(Some(Paragraph::new(&self.buf)));
                }
                if read == 0 {
                    return Ok(None);
                }
            }
        }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The stream, wherever it stands.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Appends one line, however the stream is cut into buffers; the number of bytes taken.
    fn read_line(&mut self) -> Result<usize> {
        let mut read = 0_usize;
        loop {
            let part = match self.inner.fill_buf() {
                Ok(part) => part,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Error::io("cannot read a paragraph", error).at_offset(self.offset));
                }
            };
            let (taken, done) = match memchr(b'\n', part) {
                Some(at) => (at.saturating_add(1), true),
                None => (part.len(), part.is_empty()),
            };
            if self.buf.len().saturating_add(taken) > MAX_PARAGRAPH {
                return Err(Error::limit(format!(
                    "a paragraph of more than {MAX_PARAGRAPH} bytes"
                ))
                .at_offset(self.offset));
            }
            self.buf
                .extend_from_slice(part.get(..taken).unwrap_or_default());
            self.inner.consume(taken);
            read = read.saturating_add(taken);
            self.offset = self
                .offset
                .saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
            if done {
                return Ok(read);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\n \nPackage: a\nDescription: one\n two\n .\n\tthree\nEmpty:\n\n\nPackage: b\nX:  y \n \t\nPackage: c";

    #[test]
    fn paragraphs_and_fields_keep_order_offsets_and_continuations() {
        let all: Vec<_> = paragraphs(TEXT).collect();
        assert_eq!(all.len(), 3);
        let (offset, first) = all[0];
        assert_eq!(offset, 3);
        let fields: Vec<_> = first.fields().map(Result::unwrap).collect();
        assert_eq!(fields[1].value, b"one\n two\n .\n\tthree");
        assert_eq!((fields[2].name, fields[2].value), ("Empty", &b""[..]));
        assert_eq!(all[1].1.get("x").unwrap(), Some(&b"y"[..]));
        assert_eq!(all[2].1.raw(), b"Package: c");
    }

    #[test]
    fn a_stream_gives_the_same_paragraphs_however_it_is_cut() {
        for size in [1, 2, 3, 7, 64] {
            let mut reader = ParagraphReader::new(std::io::BufReader::with_capacity(size, TEXT));
            for (_, want) in paragraphs(TEXT) {
                let got = reader.next_paragraph().unwrap().unwrap();
                assert_eq!(got.raw(), want.raw());
            }
            assert_eq!(reader.next_paragraph().unwrap(), None);
        }
    }

    #[test]
    fn malformed_lines_are_errors_and_end_the_walk() {
        for text in [
            "no colon\n",
            ": x\n",
            "-a: x\n",
            "#a: x\n",
            "a b: x\n",
            " a: x\n",
        ] {
            let paragraph = Paragraph::new(text.as_bytes());
            let mut fields = paragraph.fields();
            assert!(fields.next().unwrap().is_err(), "{text:?}");
            assert!(fields.next().is_none());
        }
        let many = "A: b\n".repeat(MAX_FIELDS + 1);
        assert!(
            Paragraph::new(many.as_bytes())
                .fields()
                .any(|field| field.is_err())
        );
    }
}
