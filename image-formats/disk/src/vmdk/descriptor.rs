//! The descriptor: lines of text that name a disk's extents and its parent.

use dormouse_block::{Error, Result, escape_terminal};

/// Bytes of a descriptor. 512 extents, the most that are opened, take 60 KiB.
pub(super) const MAX_DESCRIPTOR: u64 = 1 << 20;
/// Extents of one disk, those of zeroes included.
const MAX_EXTENTS: usize = 4096;
/// `parentCID` of a disk without a parent.
const NO_PARENT: u32 = u32::MAX;

/// How an extent keeps its sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As they are, in a file (`FLAT`, `VMFS`).
    Flat,
    /// In grains (`SPARSE`).
    Sparse,
    /// In grains of ESXi's older form (`VMFSSPARSE`).
    Cowd,
    /// In grains of ESXi's newer form (`SESPARSE`).
    SeSparse,
    /// Nowhere: they are zeroes.
    Zero,
}

/// A line of the extent description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExtentLine {
    /// Sectors of 512 bytes.
    pub(super) sectors: u64,
    pub(super) kind: Kind,
    /// The file's name; none for zeroes.
    pub(super) file: Option<Vec<u8>>,
    /// Where in a flat file it begins, in sectors.
    pub(super) offset: u64,
}

/// A validated descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// The content id: it changes with the first write after every opening.
    pub(super) cid: u32,
    /// The content id and the name of the parent.
    pub(super) parent: Option<(u32, Vec<u8>)>,
    pub(super) extents: Vec<ExtentLine>,
}

impl Descriptor {
    /// Parses `text`, which ends at its first NUL.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut keys = Keys::default();
        let mut extents = Vec::new();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            let broken = |what: &str| {
                let number = number.saturating_add(1);
                Error::corrupt(format!("line {number} of the descriptor {what}"))
            };
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            match word {
                b"RW" | b"RDONLY" | b"NOACCESS" => {
                    if extents.len() >= MAX_EXTENTS {
                        return Err(Error::limit(format!(
                            "the descriptor has more than {MAX_EXTENTS} extents"
                        )));
                    }
                    extents.push(extent(line, word).map_err(|problem| match problem {
                        Problem::Broken(what) => broken(what),
                        Problem::Unread(what) => Error::unsupported(what),
                    })?);
                }
                _ => {
                    let at = line
                        .iter()
                        .position(|byte| *byte == b'=')
                        .ok_or_else(|| broken("is neither an extent nor a key with its value"))?;
                    let (key, value) = line.split_at(at);
                    let value = unquoted(value.get(1..).unwrap_or_default().trim_ascii());
                    keys.take(key.trim_ascii(), value).map_err(broken)?;
                }
            }
        }
        if keys.encrypted {
            return Err(Error::unsupported("the disk is encrypted (VMware)"));
        }
        let cid = keys
            .cid
            .ok_or_else(|| Error::corrupt("the descriptor has no content id (CID)"))?;
        let parent = match (keys.parent_cid, keys.parent) {
            (None | Some(NO_PARENT), _) => None,
            (Some(cid), Some(name)) if !name.is_empty() => Some((cid, name)),
            (Some(_), _) => {
                return Err(Error::corrupt(
                    "the descriptor has a parent (parentCID) and does not name it",
                ));
            }
        };
        Ok(Self {
            cid,
            parent,
            extents,
        })
    }
}

/// The keys that change how the disk is read.
#[derive(Default)]
struct Keys {
    cid: Option<u32>,
    parent_cid: Option<u32>,
    parent: Option<Vec<u8>>,
    encrypted: bool,
}

impl Keys {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), &'static str> {
            match slot.replace(value) {
                Some(_) => Err("repeats a key"),
                None => Ok(()),
            }
        }
        match key {
            b"CID" => once(&mut self.cid, content_id(value)?),
            b"parentCID" => once(&mut self.parent_cid, content_id(value)?),
            b"parentFileNameHint" => once(&mut self.parent, value.to_vec()),
            _ => {
                self.encrypted |= key.to_ascii_lowercase().starts_with(b"encryption");
                Ok(())
            }
        }
    }
}

fn content_id(value: &[u8]) -> Result<u32, &'static str> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("has a content id that is no hexadecimal number");
    }
    u32::from_str_radix(text, 16).map_err(|_| "has a content id of more than 32 bits")
}

fn unquoted(value: &[u8]) -> &[u8] {
    value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""))
        .unwrap_or(value)
}

enum Problem {
    Broken(&'static str),
    Unread(String),
}

/// `RW 4192256 SPARSE "disk-s001.vmdk"`, with the first sector of a flat file behind its name.
fn extent(line: &[u8], access: &[u8]) -> Result<ExtentLine, Problem> {
    use Problem::{Broken, Unread};
    if access == b"NOACCESS" {
        return Err(Unread("an extent of the disk may not be read".to_owned()));
    }
    let (words, quoted) = match line.iter().position(|byte| *byte == b'"') {
        Some(at) => {
            let (words, rest) = line.split_at(at);
            (words, rest.get(1..))
        }
        None => (line, None),
    };
    let mut words = words
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .skip(1);
    let sectors = words
        .next()
        .and_then(number)
        .ok_or(Broken("has no number of sectors"))?;
    let kind = words.next().ok_or(Broken("has no kind of extent"))?;
    if words.next().is_some() {
        return Err(Broken("has more words than an extent"));
    }
    let kind = match kind {
        b"FLAT" | b"VMFS" => Kind::Flat,
        b"SPARSE" => Kind::Sparse,
        b"VMFSSPARSE" => Kind::Cowd,
        b"SESPARSE" => Kind::SeSparse,
        b"ZERO" => Kind::Zero,
        other => {
            let other = String::from_utf8_lossy(other).into_owned();
            return Err(Unread(format!(
                "an extent of kind {} maps a device, not a file",
                escape_terminal(&other)
            )));
        }
    };
    let Some(quoted) = quoted else {
        return match kind {
            Kind::Zero => Ok(ExtentLine {
                sectors,
                kind,
                file: None,
                offset: 0,
            }),
            _ => Err(Broken("names no file")),
        };
    };
    let end = quoted
        .iter()
        .position(|byte| *byte == b'"')
        .ok_or(Broken("has a name without an end"))?;
    let (name, rest) = quoted.split_at(end);
    let mut rest = rest
        .get(1..)
        .unwrap_or_default()
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let offset = match rest.next() {
        Some(word) => number(word).ok_or(Broken("has an offset that is no number"))?,
        None => 0,
    };
    if kind != Kind::Flat && offset != 0 {
        return Err(Broken("has an offset into a file that is not flat"));
    }
    Ok(ExtentLine {
        sectors,
        kind,
        file: (kind != Kind::Zero).then(|| name.to_vec()),
        offset,
    })
}

fn number(word: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::ErrorKind;

    const SOUND: &str = "# Disk DescriptorFile\nversion=1\nCID=0000abcd\nparentCID=ffffffff\n\
        createType=\"twoGbMaxExtentFlat\"\n\n# Extent description\nRW 100 FLAT \"a b-f001.vmdk\" 7\r\n\
        RDONLY 8 SPARSE \"c.vmdk\"\nRW 5 ZERO\n\nddb.adapterType = \"ide\"\n\0garbage";

    #[test]
    fn extents_and_ids_are_read() {
        let found = Descriptor::parse(SOUND.as_bytes()).unwrap();
        assert_eq!((found.cid, found.parent), (0xabcd, None));
        let seen: Vec<_> = found
            .extents
            .iter()
            .map(|line| (line.sectors, line.kind, line.offset))
            .collect();
        assert_eq!(
            seen,
            [
                (100, Kind::Flat, 7),
                (8, Kind::Sparse, 0),
                (5, Kind::Zero, 0)
            ]
        );
        assert_eq!(
            found.extents[0].file.as_deref(),
            Some(&b"a b-f001.vmdk"[..])
        );
        let child = "CID=1\nparentCID=0000abcd\nparentFileNameHint=\"base.vmdk\"\n";
        let child = Descriptor::parse(child.as_bytes()).unwrap();
        assert_eq!(child.parent, Some((0xabcd, b"base.vmdk".to_vec())));
    }

    #[test]
    fn what_is_not_a_descriptor_is_refused() {
        use ErrorKind::{Corrupt, Unsupported};
        for (text, kind) in [
            ("", Corrupt),
            ("CID=xyz\n", Corrupt),
            ("CID=123456789\n", Corrupt),
            ("CID=1\nCID=2\n", Corrupt),
            ("CID=1\nparentCID=2\n", Corrupt),
            ("CID=1\nnonsense\n", Corrupt),
            ("CID=1\nRW SPARSE \"a\"\n", Corrupt),
            ("CID=1\nRW -1 SPARSE \"a\"\n", Corrupt),
            ("CID=1\nRW 1 SPARSE\n", Corrupt),
            ("CID=1\nRW 1 SPARSE \"a\n", Corrupt),
            ("CID=1\nRW 1 SPARSE \"a\" 9\n", Corrupt),
            ("CID=1\nRW 1 SPARSE x \"a\"\n", Corrupt),
            ("CID=1\nRW 1 VMFSRDM \"a\"\n", Unsupported),
            ("CID=1\nNOACCESS 1 FLAT \"a\" 0\n", Unsupported),
            ("CID=1\nencryptionKeys=\"vmware:key\"\n", Unsupported),
        ] {
            let error = Descriptor::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), kind, "{text:?}: {error}");
        }
    }
}
