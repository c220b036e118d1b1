//! OVF's manifest: a digest of every file of a machine (DSP0243, "Distribution").

use dormouse_block::{Error, Result, Source};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{at_most, shown};
use crate::DiskPlace;

/// Lines of a manifest.
const MAX_ENTRIES: usize = 4096;
/// Bytes read at a time.
const STEP: u64 = 1 << 20;

/// How a digest is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// SHA-1, in OVF 1.x; broken against attackers, and still telling of accidents.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// What a manifest says of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ManifestEntry {
    /// The file's name, as written.
    pub name: String,
    /// How its digest is made.
    pub algorithm: Algorithm,
    /// The digest in hexadecimal digits, in lower case.
    pub digest: String,
    /// Where the file is.
    pub place: DiskPlace,
}

impl ManifestEntry {
    /// Reads all of `source` and holds it against the digest.
    ///
    /// # Errors
    /// `Corrupt` when they differ, and whatever keeps the bytes from being read.
    pub fn check(&self, source: &dyn Source) -> Result<()> {
        let found = match self.algorithm {
            Algorithm::Sha1 => digest::<Sha1>(source)?,
            Algorithm::Sha256 => digest::<Sha256>(source)?,
            Algorithm::Sha512 => digest::<Sha512>(source)?,
        };
        if found == self.digest {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "{} is not the file whose digest stands in the manifest",
            shown(&self.name)
        )))
    }
}

fn digest<D: Digest>(source: &dyn Source) -> Result<String> {
    let mut hasher = D::new();
    let mut buf = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < source.len() {
        let step = STEP.min(source.len().saturating_sub(offset));
        let part = usize::try_from(step)
            .ok()
            .and_then(|step| buf.get_mut(..step))
            .ok_or_else(|| Error::limit("a step longer than its buffer"))?;
        source.read_exact_at(offset, part)?;
        hasher.update(&*part);
        offset = offset.saturating_add(step);
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Parses a manifest: `SHA256(name)= digest` on each line. `place` says where a file is.
pub(super) fn parse(
    text: &str,
    place: &dyn Fn(&str) -> Result<DiskPlace>,
) -> Result<Vec<ManifestEntry>> {
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        at_most(
            entries.len().saturating_add(1),
            MAX_ENTRIES,
            "lines of a manifest",
        )?;
        let broken = || {
            let number = number.saturating_add(1);
            Error::corrupt(format!(
                "line {number} of the manifest is no digest of a file"
            ))
        };
        let (algorithm, rest) = line.split_once('(').ok_or_else(broken)?;
        // A name may hold brackets: the last pair with its sign counts.
        let (name, digest) = rest.rsplit_once('=').ok_or_else(broken)?;
        let name = name.trim_end().strip_suffix(')').ok_or_else(broken)?;
        let digest = digest.trim().to_ascii_lowercase();
        let (algorithm, len) = match algorithm.trim().to_ascii_uppercase().as_str() {
            "SHA1" => (Algorithm::Sha1, 40),
            "SHA256" => (Algorithm::Sha256, 64),
            "SHA512" => (Algorithm::Sha512, 128),
            other => {
                return Err(Error::unsupported(format!(
                    "digests of kind {:?} in the manifest",
                    shown(other)
                )));
            }
        };
        if digest.len() != len || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(broken());
        }
        entries.push(ManifestEntry {
            name: name.to_owned(),
            algorithm,
            digest,
            place: place(name)?,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::{Bytes, ErrorKind};

    fn entries(text: &str) -> Result<Vec<ManifestEntry>> {
        parse(text, &|name| Ok(DiskPlace::File(vec![name.to_owned()])))
    }

    #[test]
    fn digests_of_all_kinds_are_held_against_bytes() {
        // As sha1sum, sha256sum and sha512sum have it of "abc".
        let text = "SHA1(a (1).vmdk)= a9993e364706816aba3e25717850c26c9cd0d89d\n\
            SHA256 (b)= BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD\n\
            SHA512(c)=ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f\n";
        let all = entries(text).unwrap();
        assert_eq!(all[0].name, "a (1).vmdk");
        for entry in &all {
            entry.check(&Bytes::new(b"abc".to_vec())).unwrap();
            let error = entry.check(&Bytes::new(b"abd".to_vec())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for (text, kind) in [
            (
                "MD5(a)= 900150983cd24fb0d6963f7d28e17f72",
                ErrorKind::Unsupported,
            ),
            ("SHA1(a)= 12", ErrorKind::Corrupt),
            (
                "SHA1 a= a9993e364706816aba3e25717850c26c9cd0d89d",
                ErrorKind::Corrupt,
            ),
            ("SHA1(a", ErrorKind::Corrupt),
        ] {
            assert_eq!(entries(text).unwrap_err().kind(), kind, "{text}");
        }
    }
}
