//! Diversions (dpkg-divert(1)): paths that packages other than one must not write to.

use foldhash::HashMap;

use dormouse_block::{Error, Result};

/// One diversion.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Diversion {
    /// Where the others' file goes instead.
    to: Vec<u8>,
    /// The package whose own file stays; none for a local one.
    by: Option<String>,
}

/// `/var/lib/dpkg/diversions`.
#[derive(Debug, Clone, Default)]
pub(super) struct Diversions {
    by_name: HashMap<Vec<u8>, Diversion>,
    /// The places that diversions lead to, with what is diverted there.
    targets: HashMap<Vec<u8>, Vec<u8>>,
}

impl Diversions {
    /// Reads the file: three lines for each (path, path instead, package or `:`).
    ///
    /// # Errors
    /// `Corrupt` when the lines do not come in threes.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut out = Self::default();
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if text.is_empty() {
            return Ok(out);
        }
        let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
        let (triples, rest) = lines.as_chunks::<3>();
        if !rest.is_empty() {
            return Err(Error::corrupt("the list of diversions ends early"));
        }
        for [from, to, by] in triples {
            let by = match *by {
                b":" => None,
                name => Some(String::from_utf8_lossy(name).into_owned()),
            };
            out.targets.insert(to.to_vec(), from.to_vec());
            out.by_name.insert(
                from.to_vec(),
                Diversion {
                    to: to.to_vec(),
                    by,
                },
            );
        }
        Ok(out)
    }

    /// Where `package`'s file of this name really is.
    pub(super) fn place<'a>(&'a self, name: &'a [u8], package: &str) -> &'a [u8] {
        match self.by_name.get(name) {
            Some(diversion) if diversion.by.as_deref() != Some(package) => &diversion.to,
            _ => name,
        }
    }

    /// The package that diverts `name`: `Some(None)` for a local diversion.
    pub(super) fn diverted_by(&self, name: &[u8]) -> Option<Option<&str>> {
        self.by_name
            .get(name)
            .map(|diversion| diversion.by.as_deref())
    }

    /// What is diverted to `name`.
    pub(super) fn diverted_from(&self, name: &[u8]) -> Option<&[u8]> {
        self.targets.get(name).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diverting_package_keeps_the_name() {
        let diversions =
            Diversions::parse(b"/bin/a\n/bin/a.distrib\nmine\n/bin/b\n/bin/b.local\n:\n").unwrap();
        assert_eq!(diversions.place(b"/bin/a", "mine"), b"/bin/a");
        assert_eq!(diversions.place(b"/bin/a", "other"), b"/bin/a.distrib");
        assert_eq!(diversions.place(b"/bin/b", "mine"), b"/bin/b.local");
        assert_eq!(diversions.place(b"/bin/c", "mine"), b"/bin/c");
        assert_eq!(diversions.diverted_by(b"/bin/b"), Some(None));
        assert_eq!(
            diversions.diverted_from(b"/bin/a.distrib"),
            Some(&b"/bin/a"[..])
        );
        assert!(Diversions::parse(b"/a\n/b\n").is_err());
        Diversions::parse(b"").unwrap();
    }
}
