//! The outer container of a package file: the members of an ar(5) archive, as deb(5) restricts it.

use std::io::Read;

use dormouse_block::{Error, Result};

/// The archive's signature.
const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Bytes of a member's header.
const HEADER: usize = 60;
/// What ends a member's header.
const HEADER_END: &[u8] = b"`\n";

/// Walks the members of an ar archive, forward only.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    inner: R,
    /// Bytes of the member at hand that have not been read.
    left: u64,
    /// Whether the member at hand is followed by a byte of padding.
    padded: bool,
}

/// The header of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The name: blanks and one slash at its end removed, as deb(5) says.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
}

impl<R: Read> Archive<R> {
    /// Reads the signature.
    ///
    /// # Errors
    /// `Corrupt` for what is no ar archive, `Io` when it cannot be read.
    pub(crate) fn open(mut inner: R) -> Result<Self> {
        let mut magic = [0; 8];
        fill(&mut inner, &mut magic, "the signature of a package file")?;
        if magic != *MAGIC {
            return Err(Error::corrupt("not a package file: no ar archive"));
        }
        Ok(Self {
            inner,
            left: 0,
            padded: false,
        })
    }

    /// The next member, whatever was left of the one before being skipped; `None` at the end.
    ///
    /// # Errors
    /// `Corrupt` for a broken header or a member that ends early, `Io` when it cannot be read.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>> {
        let skip = self.left.saturating_add(u64::from(self.padded));
        let skipped = std::io::copy(&mut self.inner.by_ref().take(skip), &mut std::io::sink())
            .map_err(|error| Error::io("cannot read a package file", error))?;
        // The last member's padding may be missing.
        if skipped < self.left {
            return Err(Error::corrupt("a member of a package file ends early"));
        }
        self.left = 0;
        self.padded = false;
        let mut header = [0; HEADER];
        let mut filled = 0_usize;
        while let Some(rest) = header.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(Error::corrupt("a package file ends within a header")),
                Ok(n) => filled = filled.saturating_add(n),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("cannot read a package file", error)),
            }
        }
        let (fields, end) = header.split_at(58);
        if end != HEADER_END {
            return Err(Error::corrupt(
                "a member's header of a package file is broken",
            ));
        }
        let name = fields.get(..16).unwrap_or_default().trim_ascii_end();
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let size = fields.get(48..58).unwrap_or_default();
        let size = decimal(size)
            .ok_or_else(|| Error::corrupt("a member of a package file has no valid size"))?;
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| Error::corrupt("a member of a package file has no valid name"))?
            .to_owned();
        self.left = size;
        self.padded = size % 2 == 1;
        Ok(Some(Member { name, size }))
    }
}

impl<R> Archive<R> {
    /// What it was reading from.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Archive<R> {
    /// Reads the member at hand; ends early only with the archive, as `UnexpectedEof`.
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let wanted = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(part) = buf.get_mut(..wanted).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let n = self.inner.read(part)?;
        if n == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "a member of a package file ends early",
            ));
        }
        self.left = self
            .left
            .saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

/// Decimal digits followed by blanks.
fn decimal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field.trim_ascii_end()).ok()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Fills `buf` from `inner`.
pub(crate) fn fill(inner: &mut impl Read, buf: &mut [u8], what: &'static str) -> Result<()> {
    inner.read_exact(buf).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::corrupt(format!("{what} ends early")),
        _ => Error::io(format!("cannot read {what}"), error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut out = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            100_644,
            bytes.len()
        )
        .into_bytes();
        out.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
        out
    }

    #[test]
    fn members_are_read_and_skipped_in_order() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(member("debian-binary", b"2.0\n"));
        bytes.extend(member("odd/", b"abc"));
        bytes.extend(member("last", b"xy"));
        let mut archive = Archive::open(bytes.as_slice()).unwrap();
        assert_eq!(
            archive.next_member().unwrap().unwrap().name,
            "debian-binary"
        );
        let odd = archive.next_member().unwrap().unwrap();
        assert_eq!((odd.name.as_str(), odd.size), ("odd", 3));
        let mut one = [0; 1];
        archive.read_exact(&mut one).unwrap();
        assert_eq!(archive.next_member().unwrap().unwrap().name, "last");
        let mut rest = Vec::new();
        archive.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"xy");
        assert_eq!(archive.next_member().unwrap(), None);
    }

    #[test]
    fn broken_headers_and_early_ends_are_refused() {
        assert!(Archive::open(&b"!<arch>"[..]).is_err());
        assert!(Archive::open(&b"!<thin>\n"[..]).is_err());
        let whole = [MAGIC.as_slice(), &member("a", b"abcd")].concat();
        for cut in [9, 20, 67] {
            let mut archive = Archive::open(&whole[..cut]).unwrap();
            assert!(archive.next_member().is_err(), "{cut}");
        }
        let mut archive = Archive::open(&whole[..70]).unwrap();
        archive.next_member().unwrap();
        assert!(archive.read_to_end(&mut Vec::new()).is_err());
        for (at, byte) in [(66, b'x'), (56, b'-'), (57, b' '), (8, 0xff)] {
            let mut bad = whole.clone();
            bad[at] = byte;
            // A size of blanks before digits, a sign, a bad end or a name of other bytes.
            if at == 57 {
                bad[56] = b'x';
            }
            let mut archive = Archive::open(bad.as_slice()).unwrap();
            assert!(archive.next_member().is_err(), "{at}");
        }
    }
}
