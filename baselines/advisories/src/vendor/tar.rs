//! Archives of documents, as streams: one member at a time (POSIX.1-2017, "pax", "ustar"; GNU's long names).

use std::io::{BufRead, Read};

use dormouse_block::{Error, Result};

const BLOCK: usize = 512;
/// Bytes of a name in a header of its own.
const MAX_NAME: u64 = 64 << 10;
/// Members of one archive. All of OSV's have fewer than a million.
const MAX_MEMBERS: u64 = 10_000_000;

/// Whether a file that begins so is an archive.
pub(super) fn is_archive(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// Calls `take` with the name and bytes of each file in the archive.
pub(super) fn each_member(
    input: &mut dyn BufRead,
    take: &mut dyn FnMut(&str, &mut dyn BufRead) -> Result<()>,
) -> Result<()> {
    let mut long_name = None;
    for _ in 0..MAX_MEMBERS {
        let mut header = [0_u8; BLOCK];
        if !fill(input, &mut header)? || header.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        check(&header)?;
        let size = number(header.get(124..136).unwrap_or_default())?;
        let kind = header.get(156).copied().unwrap_or_default();
        let padding = size.next_multiple_of(512).saturating_sub(size);
        match kind {
            b'L' | b'x' => {
                if size > MAX_NAME {
                    return Err(Error::limit("a name of more than 64 KiB in an archive"));
                }
                let mut text = Vec::new();
                exact(input, size, &mut text)?;
                let found = if kind == b'L' {
                    let end = text.iter().position(|byte| *byte == 0);
                    text.get(..end.unwrap_or(text.len())).map(<[u8]>::to_vec)
                } else {
                    pax_path(&text)
                };
                long_name = found.or(long_name);
                skip(input, padding)?;
            }
            b'0' | 0 | b'7' => {
                let name = long_name.take().unwrap_or_else(|| short_name(&header));
                let name = String::from_utf8_lossy(&name).into_owned();
                let mut body = Body { input, left: size };
                take(&name, &mut body).map_err(|error| error.in_file(&name))?;
                let left = body.left;
                skip(input, left.saturating_add(padding))?;
            }
            _ => {
                if kind != b'g' {
                    long_name = None;
                }
                skip(input, size.saturating_add(padding))?;
            }
        }
    }
    Err(Error::limit("an archive of more than 10000000 files"))
}

/// A member's bytes: a stream that fails, rather than ends, where the archive does.
struct Body<'a> {
    input: &'a mut dyn BufRead,
    left: u64,
}

impl Read for Body<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let part = self.fill_buf()?;
        let n = part.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), part.get(..n)) {
            to.copy_from_slice(from);
        }
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Body<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let all = self.input.fill_buf()?;
        if all.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let n = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(all.len());
        Ok(all.get(..n).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.left = self
            .left
            .saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        self.input.consume(n);
    }
}

fn bad(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::corrupt("an archive that ends early");
    }
    Error::io("cannot read the archive", error)
}

/// Fills a block; `false` at the end of the stream.
fn fill(input: &mut dyn BufRead, block: &mut [u8; BLOCK]) -> Result<bool> {
    if input.fill_buf().map_err(bad)?.is_empty() {
        return Ok(false);
    }
    input.read_exact(block).map_err(bad)?;
    Ok(true)
}

fn exact(input: &mut dyn BufRead, size: u64, out: &mut Vec<u8>) -> Result<()> {
    let read = input.take(size).read_to_end(out).map_err(bad)?;
    if u64::try_from(read).ok() != Some(size) {
        return Err(Error::corrupt("an archive that ends early"));
    }
    Ok(())
}

fn skip(input: &mut dyn BufRead, size: u64) -> Result<()> {
    let skipped = std::io::copy(&mut input.take(size), &mut std::io::sink()).map_err(bad)?;
    if skipped != size {
        return Err(Error::corrupt("an archive that ends early"));
    }
    Ok(())
}

/// The header's sum, with its own field as blanks.
fn check(header: &[u8; BLOCK]) -> Result<()> {
    let stated = number(header.get(148..156).unwrap_or_default())?;
    let sum = header.iter().enumerate().fold(0_u64, |sum, (at, byte)| {
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        sum.saturating_add(u64::from(byte))
    });
    if sum != stated {
        return Err(Error::corrupt("a bad sum of a header in an archive"));
    }
    Ok(())
}

/// Octal digits, or GNU's binary number with the highest bit set.
fn number(field: &[u8]) -> Result<u64> {
    let bad = || Error::corrupt("a bad number in an archive's header");
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            value = value.checked_mul(256).ok_or_else(bad)? | u64::from(*byte);
        }
        return Ok(value);
    }
    let text = std::str::from_utf8(field).map_err(|_| bad())?;
    let text = text.trim_matches(|c| c == ' ' || c == '\0');
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 8).map_err(|_| bad())
}

fn until_zero(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    field.get(..end.unwrap_or(field.len())).unwrap_or_default()
}

fn short_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_zero(header.get(..100).unwrap_or_default());
    let prefix = until_zero(header.get(345..500).unwrap_or_default());
    if header.get(257..263) != Some(b"ustar\0") || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// The path of an extended header: records `LENGTH key=value\n`.
fn pax_path(text: &[u8]) -> Option<Vec<u8>> {
    let mut rest = text;
    let mut found = None;
    while !rest.is_empty() {
        let blank = rest.iter().position(|byte| *byte == b' ')?;
        let length = std::str::from_utf8(rest.get(..blank)?).ok()?.parse().ok()?;
        let record = rest.get(blank.checked_add(1)?..length)?;
        let record = record.strip_suffix(b"\n")?;
        if let Some(path) = record.strip_prefix(b"path=") {
            found = Some(path.to_vec());
        }
        rest = rest.get(length..)?;
    }
    found
}
