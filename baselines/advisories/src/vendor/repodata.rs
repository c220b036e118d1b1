//! A repository's `repodata`: which file is its `updateinfo`, and who speaks for it.

use std::path::{Path, PathBuf};

use dormouse_block::{Digest, Error, HostFile, Result, Source as _, read_vec_at};

use super::documents::signature_of;
use super::xml::{Node, Nodes};
use super::{FeedAccess, FeedSignature};

/// Bytes of an index of files. Real ones have a few KiB.
const MAX_INDEX: u64 = 4 << 20;

/// What an index says of a repository's `updateinfo`.
pub(super) struct Index {
    path: PathBuf,
    /// The digest that it states, where that is SHA-256.
    stated: Option<Digest>,
}

impl Index {
    /// Holds the digest of the file against the index, and the index against the signature beside it.
    pub(super) fn check(&self, digest: Digest, access: &FeedAccess<'_>) -> Result<FeedSignature> {
        match self.stated {
            Some(stated) if stated != digest => Err(Error::denied(format!(
                "updateinfo has the digest {digest}, and its index states {stated}"
            ))
            .in_file(self.path.display())),
            Some(_) => signature_of(&self.path, access),
            // An older index states SHA-1: it speaks for nothing.
            None => Ok(FeedSignature::Unsigned),
        }
    }
}

/// The `updateinfo` of the repository whose `repodata` a folder is, or has; `None` for another folder.
pub(super) fn updateinfo(folder: &Path) -> Result<Option<(PathBuf, Index)>> {
    let inner = folder.join("repodata");
    let folder = if inner.join("repomd.xml").is_file() {
        &inner
    } else {
        folder
    };
    let path = folder.join("repomd.xml");
    if !path.is_file() {
        return Ok(None);
    }
    let read = || -> Result<(PathBuf, Option<Digest>)> {
        let file = HostFile::open(&path)?;
        if file.len() > MAX_INDEX {
            return Err(Error::limit("an index of more than 4 MiB"));
        }
        let len = usize::try_from(file.len()).map_err(|_| Error::limit("an index too large"))?;
        let bytes = read_vec_at(&file, 0, len)?;
        let (href, stated) = named(&bytes)?;
        let name = href.rsplit('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            return Err(Error::corrupt(format!("the location {href:?} is no file")));
        }
        // It says `repodata/…`, relative to the repository; whichever folder that was, the file lies beside the index.
        Ok((folder.join(name), stated))
    };
    let (file, stated) = read().map_err(|error| error.in_file(path.display()))?;
    Ok(Some((file, Index { path, stated })))
}

fn named(bytes: &[u8]) -> Result<(String, Option<Digest>)> {
    let mut input = bytes;
    let mut nodes = Nodes::of(&mut input);
    let mut is_wanted = false;
    let (mut href, mut stated) = (String::new(), None);
    while let Some(node) = nodes.next()? {
        let Node::Start(element) = node else {
            continue;
        };
        match element.name.as_str() {
            "data" => is_wanted = element.get("type") == "updateinfo",
            "location" if is_wanted => element.get("href").clone_into(&mut href),
            "checksum" if is_wanted && element.get("type") == "sha256" => {
                let text = nodes.text()?;
                let digest = Digest::from_hex(&text);
                stated = Some(digest.ok_or_else(|| nodes.bad(format!("the checksum {text:?}")))?);
            }
            _ => {}
        }
    }
    if href.is_empty() {
        return Err(Error::unsupported("a repository without updateinfo"));
    }
    Ok((href, stated))
}
