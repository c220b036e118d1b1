//! Tar archives as dpkg reads them: V7, ustar and GNU long names, and nothing else (deb(5), "FORMAT").
//!
//! Extended (pax) headers, sparse files, multi-volume parts and unknown kinds are refused by name, as dpkg refuses
//! them. Names stay bytes until they become guest paths; a name with `..` is refused.

use std::io::Read;

use dormouse_block::{Error, GuestPath, Result};

/// Bytes of a block; headers are one block, contents are padded to blocks.
const BLOCK: usize = 512;
/// Longest GNU long name accepted, in bytes: Linux's `PATH_MAX`.
const MAX_LONG_NAME: u64 = 4096;
/// Bytes read in one step when padding or an unread content is skipped.
const STEP: usize = 64 << 10;

/// What one header describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink(GuestPath),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Directory,
    Fifo,
}

/// One header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) path: GuestPath,
    pub(crate) kind: Kind,
    /// Permission, set-id and sticky bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The owner's name, where the archive gives one.
    pub(crate) owner: String,
    /// The group's name, where the archive gives one.
    pub(crate) group: String,
    /// Seconds since 1970-01-01 UTC.
    pub(crate) mtime: i64,
    /// Bytes of content.
    pub(crate) size: u64,
    /// Where the content begins in the archive.
    pub(crate) offset: u64,
}

/// Walks a tar archive, forward only.
pub(crate) struct Tar<'a> {
    inner: Box<dyn Read + 'a>,
    /// Bytes read so far.
    at: u64,
    /// Bytes that may be read in all.
    limit: u64,
    /// Content of the entry at hand that has not been read.
    left: u64,
    /// Padding behind it.
    padding: u64,
}

impl<'a> Tar<'a> {
    /// Reads at most `limit` bytes from `inner`.
    pub(crate) fn new(inner: Box<dyn Read + 'a>, limit: u64) -> Self {
        Self {
            inner,
            at: 0,
            limit,
            left: 0,
            padding: 0,
        }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    fn advance(&mut self, n: usize) -> Result<()> {
        self.at = self.at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        if self.at > self.limit {
            return Err(Error::limit(format!(
                "the archive unpacks to more than {} bytes",
                self.limit
            )));
        }
        Ok(())
    }

    fn read_some(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match self.inner.read(buf) {
                Ok(n) => {
                    self.advance(n)?;
                    return Ok(n);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(decoding(error).at_offset(self.at));
                }
            }
        }
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut skip = self.left.saturating_add(self.padding);
        self.left = 0;
        self.padding = 0;
        let mut buf = [0; BLOCK];
        let mut large = Vec::new();
        while skip > 0 {
            let room = if skip > u64::try_from(BLOCK).unwrap_or(u64::MAX) {
                large.resize(STEP, 0);
                large.as_mut_slice()
            } else {
                buf.as_mut_slice()
            };
            let wanted = room.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            let n = self.read_some(room.get_mut(..wanted).unwrap_or_default())?;
            if n == 0 {
                return Err(Error::corrupt("the archive ends within an entry").at_offset(self.at));
            }
            skip = skip.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0_usize;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            // `read_some` borrows all of self, so the rest is read through a copy of its place.
            let mut part = [0; BLOCK];
            let room = part.get_mut(..rest.len()).unwrap_or_default();
            let n = self.read_some(room)?;
            if n == 0 {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(Error::corrupt("the archive ends within a header").at_offset(self.at));
            }
            if let (Some(to), Some(from)) = (rest.get_mut(..n), part.get(..n)) {
                to.copy_from_slice(from);
            }
            filled = filled.saturating_add(n);
        }
        Ok(Some(block))
    }

    /// The next entry; `None` at the archive's end.
    ///
    /// # Errors
    /// `Corrupt` for broken headers and names that leave the tree, `Unsupported` for kinds dpkg does not accept,
    /// `Limit` when the archive is too large, `Io` when it cannot be read.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Header>> {
        let mut long_name = None;
        let mut long_link = None;
        loop {
            self.skip_rest()?;
            let start = self.at;
            // dpkg takes a missing end as an end; one zero block is an end too.
            let Some(block) = self.block()? else {
                if long_name.is_some() || long_link.is_some() {
                    return Err(Error::corrupt("a long name without its entry").at_offset(start));
                }
                return Ok(None);
            };
            if block.iter().all(|&byte| byte == 0) {
                return Ok(None);
            }
            let raw = Raw::parse(&block).map_err(|error| error.at_offset(start))?;
            match raw.kind {
                b'L' => long_name = Some(self.long_name(raw.size)?),
                b'K' => long_link = Some(self.long_name(raw.size)?),
                _ => {
                    return self
                        .entry(raw, long_name, long_link)
                        .map(Some)
                        .map_err(|error| error.at_offset(start));
                }
            }
        }
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_LONG_NAME {
            return Err(Error::limit(
                "a name in the archive is longer than 4096 bytes",
            ));
        }
        let mut name = Vec::new();
        let mut left = size;
        while left > 0 {
            let Some(block) = self.block()? else {
                return Err(Error::corrupt("the archive ends within a long name"));
            };
            let take = BLOCK.min(usize::try_from(left).unwrap_or(BLOCK));
            name.extend_from_slice(block.get(..take).unwrap_or_default());
            left = left.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
        }
        let end = name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn entry(
        &mut self,
        raw: Raw,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Header> {
        let name = long_name.unwrap_or(raw.name);
        let link = long_link.unwrap_or(raw.link);
        let path = path_of(&name)?;
        // Only regular files carry content; dpkg ignores what other headers say of a size.
        let mut size = 0;
        let kind = match raw.kind {
            // A V7 directory is a file whose name ends in a slash.
            b'0' | b'7' | 0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | 0 => {
                size = raw.size;
                Kind::File
            }
            b'1' => Kind::HardLink(path_of(&link)?),
            b'2' => {
                if link.is_empty() || link.len() > 4095 {
                    return Err(Error::corrupt("a symbolic link without a valid target"));
                }
                Kind::Symlink(link)
            }
            b'3' => Kind::CharDevice(raw.major, raw.minor),
            b'4' => Kind::BlockDevice(raw.major, raw.minor),
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'x' | b'g' => {
                return Err(Error::unsupported(format!(
                    "a pax extended header for {path}, which packages must not have"
                )));
            }
            b'S' => return Err(Error::unsupported(format!("a sparse file at {path}"))),
            other => {
                return Err(Error::unsupported(format!(
                    "an archive entry of unknown kind {:?} at {path}",
                    char::from(other)
                )));
            }
        };
        if path.is_root() && kind != Kind::Directory {
            return Err(Error::corrupt("the archive's root is no directory"));
        }
        self.left = size;
        self.padding = match size % 512 {
            0 => 0,
            rest => 512_u64.saturating_sub(rest),
        };
        Ok(Header {
            path,
            kind,
            mode: raw.mode,
            uid: raw.uid,
            gid: raw.gid,
            owner: raw.owner,
            group: raw.group,
            mtime: raw.mtime,
            size,
            offset: self.at,
        })
    }
}

impl Read for Tar<'_> {
    /// Reads the content of the entry at hand.
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let wanted = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(part) = buf.get_mut(..wanted).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let n = self.read_some(part).map_err(std::io::Error::other)?;
        if n == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the archive ends within an entry",
            ));
        }
        self.left = self
            .left
            .saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

/// A decoder's failure: broken data unless the host failed.
pub(crate) fn decoding(error: std::io::Error) -> Error {
    // An error of ours that came through a reader keeps its kind.
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => match error.kind() {
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::InvalidData
            | std::io::ErrorKind::InvalidInput
            | std::io::ErrorKind::Other => {
                Error::corrupt("a package's compressed data is broken").because(error)
            }
            _ => Error::io("cannot read a package file", error),
        },
    }
}

/// A name of the archive as a path of the guest; dpkg itself refuses names with newlines.
fn path_of(name: &[u8]) -> Result<GuestPath> {
    if name.contains(&b'\n') {
        return Err(Error::corrupt("a name with a newline in the archive"));
    }
    GuestPath::new(name).map_err(|error| {
        Error::corrupt(format!(
            "a bad name in the archive: {:?}",
            String::from_utf8_lossy(name.get(..name.len().min(200)).unwrap_or_default())
        ))
        .because(error)
    })
}

/// A header's fields before they are judged together.
struct Raw {
    name: Vec<u8>,
    mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    kind: u8,
    link: Vec<u8>,
    owner: String,
    group: String,
    major: u32,
    minor: u32,
}

impl Raw {
    fn parse(block: &[u8; BLOCK]) -> Result<Self> {
        let field = |from: usize, len: usize| -> &[u8] {
            block
                .get(from..from.saturating_add(len))
                .unwrap_or_default()
        };
        let stored =
            number(field(148, 8)).ok_or_else(|| Error::corrupt("a bad header checksum"))?;
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, &byte)| {
                if (148..156).contains(&at) {
                    u64::from(b' ')
                } else {
                    u64::from(byte)
                }
            })
            .sum();
        if u64::try_from(stored).ok() != Some(sum) {
            return Err(Error::corrupt("a header's checksum is wrong"));
        }
        let text = |bytes: &[u8]| {
            let end = bytes
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(bytes.len());
            bytes.get(..end).unwrap_or_default().to_vec()
        };
        let bad = |what: &str| Error::corrupt(format!("a header with a bad {what}"));
        let unsigned = |bytes: &[u8], what: &str| -> Result<u64> {
            number(bytes)
                .and_then(|value| u64::try_from(value).ok())
                .ok_or_else(|| bad(what))
        };
        let small = |bytes: &[u8], what: &str| -> Result<u32> {
            u32::try_from(unsigned(bytes, what)?).map_err(|_| bad(what))
        };
        let mut name = text(field(0, 100));
        let magic = field(257, 6);
        let prefix = text(field(345, 155));
        // Only POSIX archives use the prefix; GNU ones keep other things there.
        if magic == b"ustar\0" && !prefix.is_empty() {
            name = [prefix.as_slice(), b"/", &name].concat();
        }
        let (owner, group) = if magic.starts_with(b"ustar") {
            (
                String::from_utf8_lossy(&text(field(265, 32))).into_owned(),
                String::from_utf8_lossy(&text(field(297, 32))).into_owned(),
            )
        } else {
            (String::new(), String::new())
        };
        let kind = field(156, 1).first().copied().unwrap_or(0);
        let (major, minor) = if matches!(kind, b'3' | b'4') {
            (
                small(field(329, 8), "device number")?,
                small(field(337, 8), "device number")?,
            )
        } else {
            (0, 0)
        };
        let mode = small(field(100, 8), "mode")?;
        Ok(Self {
            name,
            mode: u16::try_from(mode & 0o7777).map_err(|_| bad("mode"))?,
            uid: small(field(108, 8), "owner")?,
            gid: small(field(116, 8), "group")?,
            size: unsigned(field(124, 12), "size")?,
            mtime: number(field(136, 12)).ok_or_else(|| bad("time"))?,
            kind,
            link: text(field(157, 100)),
            owner,
            group,
            major,
            minor,
        })
    }
}

/// Octal digits between blanks and NULs, or GNU's base-256 when the first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement over the whole field, its first bit being the mark (0x80 positive, 0xff negative).
        let mut value: i64 = match first {
            0x80 => 0,
            0xff => -1,
            _ => return None,
        };
        for &byte in rest {
            value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
        }
        return Some(value);
    }
    let digits = field
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let mut value = 0_i64;
    for &digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A header with a valid checksum.
    pub(crate) fn header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(b"0000644");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[136..147].copy_from_slice(b"00000000012");
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link);
        block[257..265].copy_from_slice(b"ustar  \0");
        seal(&mut block);
        block
    }

    fn seal(block: &mut [u8; BLOCK]) {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<Header>> {
        let mut tar = Tar::new(Box::new(bytes), 1 << 20);
        let mut out = Vec::new();
        while let Some(header) = tar.next_entry()? {
            out.push(header);
        }
        Ok(out)
    }

    #[test]
    fn contents_are_found_where_the_headers_say() {
        let mut bytes = header(b"./", b'5', 0, b"").to_vec();
        bytes.extend(header(b"./a", b'0', 3, b""));
        let mut content = [0; 512];
        content[..3].copy_from_slice(b"abc");
        bytes.extend(content);
        bytes.extend(header(b"./b", b'1', 77, b"./a"));
        bytes.extend(header(b"dir/", 0, 0, b""));
        bytes.extend([0; 1024]);
        let mut tar = Tar::new(Box::new(bytes.as_slice()), 1 << 20);
        assert!(tar.next_entry().unwrap().unwrap().path.is_root());
        let a = tar.next_entry().unwrap().unwrap();
        assert_eq!((a.size, a.offset, a.mtime, a.mode), (3, 1024, 10, 0o644));
        let mut text = String::new();
        tar.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let b = tar.next_entry().unwrap().unwrap();
        assert_eq!(b.kind, Kind::HardLink(GuestPath::new("/a").unwrap()));
        assert_eq!(b.size, 0);
        assert_eq!(tar.next_entry().unwrap().unwrap().kind, Kind::Directory);
        assert_eq!(tar.next_entry().unwrap(), None);
    }

    #[test]
    fn long_names_are_taken_and_bounded() {
        let long = "x".repeat(200);
        let mut bytes = header(b"././@LongLink", b'L', 201, b"").to_vec();
        let mut content = [0; 512];
        content[..200].copy_from_slice(long.as_bytes());
        bytes.extend(content);
        bytes.extend(header(b"cut", b'0', 0, b""));
        assert_eq!(
            read_all(&bytes).unwrap()[0].path.to_string(),
            format!("/{long}")
        );
        let endless = header(b"././@LongLink", b'L', 1 << 30, b"");
        assert_eq!(
            read_all(&endless).unwrap_err().kind(),
            dormouse_block::ErrorKind::Limit
        );
        assert!(
            read_all(&bytes[..1024]).is_err(),
            "a long name without its entry"
        );
    }

    #[test]
    fn escapes_and_tricks_are_refused_by_name() {
        use dormouse_block::ErrorKind::{Corrupt, Unsupported};
        for (name, kind, link, expected) in [
            (&b"../etc/passwd"[..], b'0', &b""[..], Corrupt),
            (b"a/../../b", b'5', b"", Corrupt),
            (b"./a", b'1', b"../../etc/shadow", Corrupt),
            (b"a\nb", b'0', b"", Corrupt),
            (b"./a", b'2', b"", Corrupt),
            (b"./", b'2', b"elsewhere", Corrupt),
            (b"./a", b'x', b"", Unsupported),
            (b"./a", b'g', b"", Unsupported),
            (b"./a", b'S', b"", Unsupported),
            (b"./a", b'M', b"", Unsupported),
            (b"./a", b'V', b"", Unsupported),
        ] {
            let error = read_all(&header(name, kind, 0, link)).unwrap_err();
            assert_eq!(error.kind(), expected, "{error}");
        }
        let mut broken = header(b"./a", b'0', 0, b"");
        broken[0] = b'!';
        assert!(read_all(&broken).is_err());
    }

    #[test]
    fn numbers_are_octal_or_base_256_and_never_wrap() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"8"), None);
        assert_eq!(number(b"77777777777777777777777777"), None);
        assert_eq!(number(&[0x80, 0, 0, 1]), Some(1));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xfe]), Some(-2));
        assert_eq!(
            number(&[0x80, 255, 255, 255, 255, 255, 255, 255, 255, 255]),
            None
        );
        assert_eq!(number(&[0x81, 0]), None);
    }

    #[test]
    fn an_archive_above_its_limit_ends_there() {
        let mut bytes = header(b"./a", b'0', 4096, b"").to_vec();
        bytes.extend([0; 4096]);
        let mut tar = Tar::new(Box::new(bytes.as_slice()), 1024);
        tar.next_entry().unwrap();
        assert!(tar.read_to_end(&mut Vec::new()).is_err());
    }
}
