//! Paths inside a guest: bytes, never host paths.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest guest path accepted, in bytes: Linux's `PATH_MAX`, less its final NUL.
const MAX_PATH: usize = 4095;
/// Longest name accepted, in bytes: Linux's `NAME_MAX`.
const MAX_NAME: usize = 255;

/// An absolute, normalised path inside a guest: `/`-separated bytes with no `.`, `..`, empty or NUL-bearing
/// component. It names no file of the host and converts into no host path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct GuestPath(Vec<u8>);

/// A path that cannot be one inside a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPathError(&'static str);

impl fmt::Display for GuestPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for GuestPathError {}

impl GuestPath {
    /// The guest's root, `/`.
    #[must_use]
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Reads a path as archives and databases write it: a leading `/` or `./` or neither, repeated or
    /// trailing slashes and `.` components dropped.
    ///
    /// # Errors
    /// `..`, NUL bytes, and paths or names longer than Linux allows are refused.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, GuestPathError> {
        let mut out = Vec::with_capacity(path.as_ref().len().saturating_add(1));
        for name in path.as_ref().split(|&byte| byte == b'/') {
            if name.is_empty() || name == b"." {
                continue;
            }
            check_name(name)?;
            out.push(b'/');
            out.extend_from_slice(name);
        }
        if out.is_empty() {
            out.push(b'/');
        }
        if out.len() > MAX_PATH {
            return Err(GuestPathError("path is longer than 4095 bytes"));
        }
        Ok(Self(out))
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// As [`GuestPath::new`]; `name` must be one component.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, GuestPathError> {
        let name = name.as_ref();
        if name.contains(&b'/') || name.is_empty() || name == b"." {
            return Err(GuestPathError("name is not one path component"));
        }
        check_name(name)?;
        let mut out = if self.is_root() {
            Vec::new()
        } else {
            self.0.clone()
        };
        out.push(b'/');
        out.extend_from_slice(name);
        if out.len() > MAX_PATH {
            return Err(GuestPathError("path is longer than 4095 bytes"));
        }
        Ok(Self(out))
    }

    /// This path followed by all components of `rest`, which is taken relative to it.
    ///
    /// # Errors
    /// As [`GuestPath::new`].
    pub fn join_path(&self, rest: impl AsRef<[u8]>) -> Result<Self, GuestPathError> {
        let mut out = self.0.clone();
        out.push(b'/');
        out.extend_from_slice(rest.as_ref());
        Self::new(out)
    }

    /// The bytes, beginning with `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == b"/"
    }

    /// The components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
    }

    /// The last component; the root has none.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The directory that holds this; the root has none.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|&byte| byte == b'/')?;
        Some(if cut == 0 {
            Self::root()
        } else {
            Self(self.0.get(..cut)?.to_vec())
        })
    }

    /// Whether this is `ancestor` or lies below it.
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.rest_below(ancestor).is_some()
    }

    /// This path as it is called where `ancestor` is the root; `None` when it does not lie there.
    #[must_use]
    pub fn below(&self, ancestor: &Self) -> Option<Self> {
        Some(match self.rest_below(ancestor)? {
            [] => Self::root(),
            rest => Self(rest.to_vec()),
        })
    }

    /// The bytes after those of `ancestor`: none, or a slash and more.
    fn rest_below(&self, ancestor: &Self) -> Option<&[u8]> {
        if ancestor.is_root() {
            return Some(&self.0);
        }
        let rest = self.0.strip_prefix(ancestor.0.as_slice())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
    }
}

fn check_name(name: &[u8]) -> Result<(), GuestPathError> {
    if name == b".." {
        return Err(GuestPathError("path contains .."));
    }
    if name.contains(&0) {
        return Err(GuestPathError("path contains a NUL byte"));
    }
    if name.len() > MAX_NAME {
        return Err(GuestPathError("name is longer than 255 bytes"));
    }
    Ok(())
}

impl Ord for GuestPath {
    /// Component by component, so that a directory stands directly before what it holds.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // No name holds a slash: where it ends one, what follows in the other path is more.
        const STEP: usize = 16;
        let (one, other) = (&*self.0, &*other.0);
        let steps = one.chunks_exact(STEP).zip(other.chunks_exact(STEP));
        let same = steps.take_while(|(one, other)| one == other).count();
        let rest = same.saturating_mul(STEP);
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        let one = one.get(rest..).unwrap_or_default().iter().map(key);
        let other = other.get(rest..).unwrap_or_default().iter().map(key);
        one.cmp(other)
    }
}

impl PartialOrd for GuestPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for GuestPath {
    /// UTF-8 as it is; a backslash doubled; other bytes and control characters as `\xNN`. Reversible.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '\\' {
                    f.write_str("\\\\")?;
                } else if c.is_control() {
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for GuestPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GuestPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = unescape(&text).ok_or_else(|| D::Error::custom("bad escape in guest path"))?;
        Self::new(bytes).map_err(D::Error::custom)
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.split_first()? {
            (b'\\', after) => {
                out.push(b'\\');
                rest = after;
            }
            (b'x', after) => {
                let (hex, after) = after.split_at_checked(2)?;
                out.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_called_otherwise_below_another_one() {
        let below = |path: &str, ancestor: &str| {
            let ancestor = GuestPath::new(ancestor).unwrap();
            let found = GuestPath::new(path).unwrap().below(&ancestor);
            found.map(|found| found.to_string())
        };
        assert_eq!(below("/boot/efi/a", "/boot/efi").as_deref(), Some("/a"));
        assert_eq!(below("/boot", "/boot").as_deref(), Some("/"));
        assert_eq!(below("/boot/a", "/").as_deref(), Some("/boot/a"));
        assert_eq!(below("/", "/").as_deref(), Some("/"));
        assert_eq!(below("/bootstrap", "/boot"), None);
    }

    #[test]
    fn paths_are_in_the_order_of_their_components() {
        let mut paths: Vec<GuestPath> = [
            "/",
            "/a",
            "/a/b",
            "/a/b/c",
            "/a-b",
            "/a!",
            "/a.b/c",
            "/ab",
            "/b",
            "/\u{1}",
            "/a/\u{1}",
            "/usr/share/doc/libc6",
            "/usr/share/doc/libc6/copyright",
            "/usr/share/doc/libc6-dev",
            "/usr/share/doc",
            "/usr/share/doc/libc",
            "/usr/share/do/c/libc6",
        ]
        .iter()
        .map(|path| GuestPath::new(path).unwrap())
        .collect();
        for one in &paths {
            for other in &paths {
                let components = one.components().cmp(other.components());
                assert_eq!(one.cmp(other), components, "{one} {other}");
            }
        }
        paths.sort();
        assert!(paths.is_sorted_by(|one, other| one.components().le(other.components())));
    }

    #[test]
    fn archive_spellings_normalise() {
        for path in ["usr/bin", "./usr/bin", "/usr//bin/", "/./usr/./bin"] {
            assert_eq!(GuestPath::new(path).unwrap().as_bytes(), b"/usr/bin");
        }
        assert!(GuestPath::new("./").unwrap().is_root());
    }

    #[test]
    fn escapes_from_the_guest_are_refused() {
        assert!(GuestPath::new("../etc/passwd").is_err());
        assert!(GuestPath::new("usr/../../etc").is_err());
        assert!(GuestPath::root().join("..").is_err());
        assert!(GuestPath::root().join("a/b").is_err());
        assert!(GuestPath::new(b"a\0b").is_err());
        assert!(GuestPath::new("x".repeat(256)).is_err());
    }

    #[test]
    fn text_form_is_reversible() {
        let path = GuestPath::new(b"/a\\b/\xff\x1b/\xc3\xa9").unwrap();
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<GuestPath>(&json).unwrap(), path);
    }

    #[test]
    fn a_directory_sorts_directly_before_its_children() {
        let mut paths: Vec<_> = ["/a-b", "/a/c", "/a"]
            .map(|path| GuestPath::new(path).unwrap())
            .into();
        paths.sort();
        let text: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["/a", "/a/c", "/a-b"]);
    }
}
