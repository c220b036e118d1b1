//! Files, folders and archives, and the documents in them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use dormouse_block::{Digest, Error, HostFile, Result, Source as _, digest_of, read_vec_at};

use super::head::Head;
use super::{
    Beginning, Document, Feed, FeedAccess, FeedKind, FeedSignature, Grain, KINDS, NONE_OF_THEM,
    repodata, tar,
};
use crate::catalogue::{Builder, Catalogue};
use crate::codec::Codec;
use crate::folder::stream;
use crate::openpgp::detached;

/// Largest feed file, in bytes as it lies there. Red Hat's VEX of all years has 300 MB.
const MAX_FEED: u64 = 4 << 30;
/// Bytes that one feed file may unpack to. Red Hat's VEX of all years has 20 GB.
const MAX_UNPACKED: u64 = 64 << 30;
/// Bytes of the beginning by which a document is told.
const HEAD: u64 = 64 << 10;
/// Files of one feed folder looked at. All of OSV's Debian has 60,000.
const MAX_FILES: usize = 1_000_000;
/// Folders below a feed folder: CSAF's have one for each year, and an archive of them one more.
const MAX_DEPTH: u8 = 6;
/// Largest feed that is held against a signature beside it, in bytes, since that needs it whole.
const MAX_SIGNED: u64 = 512 << 20;
/// Largest signature.
const MAX_SIGNATURE: u64 = 1 << 20;
/// What signatures beside feeds end with.
const SIGNATURES: [&str; 3] = ["asc", "sig", "gpg"];
/// Files in folders of feeds that are none, and said to be by their names: signatures and digests, and what mirrors keep beside.
const BESIDE: [&str; 7] = ["asc", "sig", "gpg", "sha256", "sha512", "md", "csv"];

/// One feed to be read.
pub(super) struct Feeding {
    /// Its name.
    name: String,
    kind: FeedKind,
    /// Its files, each with the path that its digest speaks of.
    files: Vec<(PathBuf, String)>,
    /// A signature or an index that speaks for it.
    index: Option<repodata::Index>,
    other_files: usize,
}

/// The feeds at a path.
pub(super) fn sources(path: &Path) -> Result<Vec<Feeding>> {
    if !path.is_dir() {
        return Ok(vec![Feeding {
            name: file_name(path),
            kind: kind_of(path)?,
            files: vec![(path.to_owned(), file_name(path))],
            index: None,
            other_files: 0,
        }]);
    }
    let (files, indices, other_files) = list(path)?;
    let mut feeds = Vec::new();
    for index in indices {
        let (file, index) = index;
        feeds.push(Feeding {
            name: file_name(&file),
            kind: kind_of(&file)?,
            files: vec![(file.clone(), file_name(&file))],
            index: Some(index),
            other_files: 0,
        });
    }
    let mut groups: Vec<Feeding> = Vec::new();
    for file in files {
        let kind = kind_of(&file)?;
        let inside = file.strip_prefix(path).unwrap_or(&file);
        let inside = inside.to_string_lossy().into_owned();
        if kind.grain() == Grain::Whole {
            feeds.push(Feeding {
                name: file_name(&file),
                kind,
                files: vec![(file, inside)],
                index: None,
                other_files: 0,
            });
            continue;
        }
        match groups.iter_mut().find(|group| group.kind == kind) {
            Some(group) => group.files.push((file, inside)),
            None => groups.push(Feeding {
                name: file_name(path),
                kind,
                files: vec![(file, inside)],
                index: None,
                other_files: 0,
            }),
        }
    }
    for group in &mut groups {
        if let [(file, _)] = &group.files[..] {
            group.name = file_name(file);
        }
    }
    feeds.append(&mut groups);
    if let Some(first) = feeds.first_mut() {
        first.other_files = other_files;
    }
    Ok(feeds)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Files in their order, those that an index names, and how many are none by their names.
type Listing = (Vec<PathBuf>, Vec<(PathBuf, repodata::Index)>, usize);

/// The files in a folder and the folders in it.
fn list(path: &Path) -> Result<Listing> {
    let mut found = Vec::new();
    let mut indices = Vec::new();
    let mut beside = 0_usize;
    let mut folders = vec![(path.to_owned(), 0_u8)];
    let mut seen = 0_usize;
    while let Some((folder, depth)) = folders.pop() {
        let fail = |error| Error::io("cannot list the feed", error).in_file(folder.display());
        if let Some(named) = repodata::updateinfo(&folder)? {
            indices.push(named);
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            seen = seen.saturating_add(1);
            if seen > MAX_FILES {
                return Err(
                    Error::limit("more than 1000000 files in a feed").in_file(folder.display())
                );
            }
            let suffix = path.extension().and_then(|suffix| suffix.to_str());
            if path.is_dir() {
                if depth >= MAX_DEPTH {
                    return Err(Error::limit("a feed with folders more than 6 deep")
                        .in_file(path.display()));
                }
                folders.push((path, depth.saturating_add(1)));
            } else if suffix.is_some_and(|suffix| BESIDE.contains(&suffix)) && !is_scores(&path) {
                beside = beside.saturating_add(1);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    indices.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok((found, indices, beside))
}

/// Scores are a table too, and the only one that is a feed.
fn is_scores(path: &Path) -> bool {
    file_name(path).contains("epss")
}

fn open(path: &Path) -> Result<HostFile> {
    let file = HostFile::open(path)?;
    if file.len() > MAX_FEED {
        return Err(Error::limit("a feed of more than 4 GiB").in_file(path.display()));
    }
    Ok(file)
}

fn io(error: std::io::Error) -> Error {
    Error::io("cannot read the feed", error)
}

fn unpacked<'a>(mut input: impl BufRead + 'a) -> Result<impl BufRead + 'a> {
    let head = input.fill_buf().map_err(io)?;
    let codec = Codec::of_head(head)
        .ok_or_else(|| Error::unsupported("a zip archive, which has to be unpacked first"))?;
    codec.open_unchecked(input, MAX_UNPACKED)
}

/// The first bytes of a stream, and the whole stream.
fn beginning<'a>(input: &'a mut dyn BufRead) -> Result<(Vec<u8>, impl BufRead + 'a)> {
    let mut head = Vec::new();
    (&mut *input)
        .take(HEAD)
        .read_to_end(&mut head)
        .map_err(io)?;
    Ok((
        head.clone(),
        BufReader::new(std::io::Cursor::new(head).chain(input)),
    ))
}

/// What a document is.
fn kind_of_head(bytes: &[u8]) -> Result<FeedKind> {
    let text = String::from_utf8_lossy(bytes);
    let beginning = Beginning {
        text: &text,
        json: Head::of_json(bytes),
    };
    let row = KINDS.iter().find(|row| (row.is)(&beginning));
    row.map(|row| row.kind)
        .ok_or_else(|| Error::unsupported(NONE_OF_THEM))
}

/// Whether a file's name says that it is a document of some feed.
fn is_document(name: &str) -> bool {
    [".json", ".xml", ".yaml", ".yml"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// What a file is, by its beginning; an archive by its first document.
fn kind_of(path: &Path) -> Result<FeedKind> {
    let read = || kind_of_stream(&mut stream(open(path)?));
    read().map_err(|error| error.in_file(path.display()))
}

fn kind_of_stream(input: &mut dyn BufRead) -> Result<FeedKind> {
    let mut input = unpacked(input)?;
    let (head, mut whole) = beginning(&mut input)?;
    if !tar::is_archive(&head) {
        return kind_of_head(&head);
    }
    let mut found = None;
    // The first document ends the search; that is no failure.
    let stop = tar::each_member(&mut whole, &mut |name, body| {
        if !is_document(name) {
            return Ok(());
        }
        let (head, _) = beginning(body)?;
        found = Some(kind_of_head(&head)?);
        Err(Error::cancelled())
    });
    match (found, stop) {
        (Some(kind), _) => Ok(kind),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(Error::unsupported("an archive without a document in it")),
    }
}

fn read_one(
    name: &str,
    input: &mut dyn BufRead,
    expected: FeedKind,
    out: &mut Builder,
) -> Result<()> {
    let (head, mut whole) = beginning(input)?;
    let kind = kind_of_head(&head)?;
    // Folders and archives may hold several kinds of one document each; the kind of the feed is that of the first.
    let row = kind
        .row()
        .filter(|_| kind == expected || kind.grain() == Grain::Single);
    let row = row.ok_or_else(|| Error::unsupported("a document of another kind than the first"))?;
    let mut document = Document {
        name: name.rsplit('/').next().unwrap_or(name),
        input: &mut whole,
    };
    (row.read)(&mut document, out)
}

/// Reads a document, or every one of an archive.
fn read_all(name: &str, input: &mut dyn BufRead, kind: FeedKind, out: &mut Builder) -> Result<()> {
    let mut input = unpacked(input)?;
    let (head, mut whole) = beginning(&mut input)?;
    if !tar::is_archive(&head) {
        return read_one(name, &mut whole, kind, out);
    }
    tar::each_member(&mut whole, &mut |name, body| {
        if is_document(name) {
            read_one(name, body, kind, out)
        } else {
            out.other_file();
            Ok(())
        }
    })
}

/// Compiles the document or archive that lies in memory.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<(Feed, Catalogue)> {
    let kind = kind_of_stream(&mut &*bytes).map_err(|error| error.in_file(name))?;
    let digest = Digest::of(bytes);
    let mut builder = Builder::new();
    read_all(name, &mut &*bytes, kind, &mut builder).map_err(|error| error.in_file(name))?;
    let catalogue = builder.finish(digest)?;
    Ok((
        feed(name, kind, digest, FeedSignature::Unsigned, &catalogue),
        catalogue,
    ))
}

/// What is said of a feed that was read.
fn feed(
    name: &str,
    kind: FeedKind,
    digest: Digest,
    signature: FeedSignature,
    catalogue: &Catalogue,
) -> Feed {
    let counts = catalogue.counts();
    let wide = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Feed {
        name: name.to_owned(),
        kind,
        digest,
        date: catalogue.date(),
        signature,
        documents: wide(counts.documents),
        advisories: catalogue.advisory_count(),
        entries: catalogue.len().saturating_add(catalogue.fact_count()),
        unread: wide(counts.unread),
        elsewhere: wide(counts.elsewhere),
        other_files: wide(counts.other_files),
    }
}

impl Feeding {
    /// Its digest: of its file, else of what `sha256sum` writes of its files.
    fn digest(&self) -> Result<Digest> {
        if let [(file, _)] = &self.files[..] {
            return digest_of(&open(file)?);
        }
        let mut lines = String::new();
        for (file, name) in &self.files {
            let digest = digest_of(&open(file)?)?;
            lines.push_str(&format!("{}  {name}\n", digest.hex()));
        }
        Ok(Digest::of(lines))
    }

    /// Reads it, or what was kept of it.
    pub(super) fn load(&self, access: &FeedAccess<'_>) -> Result<(Feed, Catalogue)> {
        let digest = self.digest()?;
        let signature = self.signature(digest, access)?;
        let key = format!("feed-{}", digest.hex());
        let kept = access.cache.and_then(|cache| (cache.load)(&key));
        let catalogue = match kept.and_then(|bytes| Catalogue::from_kept(bytes, digest)) {
            Some(catalogue) => catalogue,
            None => {
                let catalogue = self.compile(digest)?;
                if let Some(cache) = access.cache {
                    (cache.save)(&key, &[catalogue.kept()]);
                }
                catalogue
            }
        };
        let mut feed = feed(&self.name, self.kind, digest, signature, &catalogue);
        feed.other_files = feed.other_files.saturating_add(self.other_files);
        Ok((feed, catalogue))
    }

    fn compile(&self, digest: Digest) -> Result<Catalogue> {
        let mut builder = Builder::new();
        for (path, _) in &self.files {
            let mut input = stream(open(path)?);
            read_all(&file_name(path), &mut input, self.kind, &mut builder)
                .map_err(|error| error.in_file(path.display()))?;
        }
        builder.finish(digest)
    }

    /// Holds every file against the signature beside it, where there is one.
    fn signature(&self, digest: Digest, access: &FeedAccess<'_>) -> Result<FeedSignature> {
        if let Some(index) = &self.index {
            return index.check(digest, access);
        }
        let mut state = None;
        for (path, _) in &self.files {
            let one = signature_of(path, access)?;
            // Documents of one folder are as good as the worst of them.
            state = Some(match (state, one) {
                (None, one) => one,
                (
                    Some(FeedSignature::Good { mut signers }),
                    FeedSignature::Good { signers: more },
                ) => {
                    signers.extend(more);
                    signers.sort();
                    signers.dedup_by(|one, other| one.key == other.key);
                    FeedSignature::Good { signers }
                }
                (Some(FeedSignature::Unsigned), _) | (_, FeedSignature::Unsigned) => {
                    FeedSignature::Unsigned
                }
                _ => FeedSignature::Unchecked,
            });
        }
        Ok(state.unwrap_or_default())
    }
}

/// How a file stands to the detached signature beside it.
pub(super) fn signature_of(path: &Path, access: &FeedAccess<'_>) -> Result<FeedSignature> {
    let beside = SIGNATURES.iter().find_map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(suffix);
        let beside = PathBuf::from(name);
        beside.is_file().then_some(beside)
    });
    let Some(beside) = beside else {
        return Ok(FeedSignature::Unsigned);
    };
    let Some(keyring) = access.keyring else {
        return Ok(FeedSignature::Unchecked);
    };
    let whole = |path: &Path, limit: u64, what: &'static str| -> Result<Vec<u8>> {
        let file = HostFile::open(path)?;
        if file.len() > limit {
            return Err(Error::limit(what).in_file(path.display()));
        }
        let len = usize::try_from(file.len()).map_err(|_| Error::limit(what))?;
        read_vec_at(&file, 0, len)
    };
    let data = whole(path, MAX_SIGNED, "a signed feed of more than 512 MiB")?;
    let signature = whole(&beside, MAX_SIGNATURE, "a signature of more than 1 MiB")?;
    let signers = detached(&data, &signature, keyring, access.as_of)
        .map_err(|error| error.in_file(path.display()))?;
    Ok(FeedSignature::Good { signers })
}
