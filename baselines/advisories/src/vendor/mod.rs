//! What vendors say of CVEs: which version of which source package mends which, in which release.
//!
//! Feeds are local files, told apart by what is in them: the Debian security tracker's `data/json` (keyed by source
//! package), Debian's lists of advisories (`data/DSA/list`, `data/DLA/list`), CISA's catalogue of exploited
//! vulnerabilities (JSON), and EPSS scores (CSV). Each is read as a stream, plain or compressed.

mod advisory_list;
mod epss;
mod tracker;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use dormouse_block::{Digest, Error, HostFile, Result, Source as _, digest_of};
use dormouse_packages::dpkg::Version;
use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::folder::stream;

/// Largest feed file, in bytes as it lies there. The tracker's JSON has about 70 MB.
const MAX_FEED: u64 = 1 << 30;
/// Statements of all feeds. The tracker makes about 200,000.
const MAX_FIXES: usize = 4_000_000;
/// Files of one feed folder looked at.
const MAX_FILES: usize = 1000;

/// One statement: this version of a source package mends this CVE in this release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fix {
    /// The CVE.
    pub cve: Box<str>,
    /// The release, by codename.
    pub release: Box<str>,
    /// The version of the source package from which on it is mended.
    pub fixed: Version,
    /// How urgent, in the vendor's own word.
    pub urgency: Option<Box<str>>,
    /// The vendor's advisory, such as `DSA-5000-1`.
    pub advisory: Option<Box<str>>,
}

/// A feed that was read. A fact: evidence carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Feed {
    /// The name of its file.
    pub name: String,
    /// What it is.
    pub kind: FeedKind,
    /// Its digest.
    pub digest: Digest,
    /// Statements taken from it.
    pub entries: usize,
    /// Statements whose version does not read, left out.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unread: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Kinds of feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedKind {
    /// The Debian security tracker's JSON.
    DebianTracker,
    /// A list of Debian's advisories.
    DebianAdvisories,
    /// CISA's catalogue of vulnerabilities known to be exploited.
    Exploited,
    /// Scores of the Exploit Prediction Scoring System.
    Epss,
}

/// What all feeds say, by source package.
#[derive(Debug, Clone, Default)]
pub struct Advisories {
    fixes: BTreeMap<Box<str>, Vec<Fix>>,
    count: usize,
    unread: usize,
    exploited: BTreeSet<Box<str>>,
    scores: BTreeMap<Box<str>, Box<str>>,
    feeds: Vec<Feed>,
}

impl Advisories {
    /// Reads feeds: files, or folders of them.
    ///
    /// # Errors
    /// The host's, `Corrupt` for a feed that does not read, `Unsupported` for a file that is none, `Limit` past a named
    /// bound.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut advisories = Self::default();
        let mut later = Vec::new();
        for path in paths {
            for file in files(path)? {
                let kind = kind_of(&file)?;
                match kind {
                    FeedKind::DebianTracker | FeedKind::DebianAdvisories => {
                        advisories.add(&file, kind)?;
                    }
                    FeedKind::Exploited | FeedKind::Epss => later.push((file, kind)),
                }
            }
        }
        // What speaks of CVEs alone is kept of those that a package has.
        for (file, kind) in later {
            advisories.add(&file, kind)?;
        }
        for fixes in advisories.fixes.values_mut() {
            fixes.sort();
            fixes.dedup();
        }
        advisories.feeds.sort();
        Ok(advisories)
    }

    /// The feeds that were read.
    #[must_use]
    pub fn feeds(&self) -> &[Feed] {
        &self.feeds
    }

    /// Whether no feed was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// What an upgrade of `source` from the version `there` to `wanted` mends in `release`: one statement for each CVE,
    /// in the order of their names, an advisory's before the tracker's.
    #[must_use]
    pub fn mended(
        &self,
        source: &str,
        release: &str,
        there: &Version,
        wanted: &Version,
    ) -> Vec<Fix> {
        let mut by_cve: BTreeMap<&str, Fix> = BTreeMap::new();
        let all = self.fixes.get(source).into_iter().flatten();
        for fix in
            all.filter(|fix| &*fix.release == release && *there < fix.fixed && fix.fixed <= *wanted)
        {
            let known = by_cve.entry(&fix.cve).or_insert_with(|| fix.clone());
            if known.advisory.is_none() {
                known.advisory.clone_from(&fix.advisory);
            }
            if known.urgency.is_none() {
                known.urgency.clone_from(&fix.urgency);
            }
        }
        by_cve.into_values().collect()
    }

    /// Whether a CVE is known to be exploited.
    #[must_use]
    pub fn is_exploited(&self, cve: &str) -> bool {
        self.exploited.contains(cve)
    }

    /// The probability that a CVE is exploited within 30 days, as the scores write it.
    #[must_use]
    pub fn score(&self, cve: &str) -> Option<&str> {
        self.scores.get(cve).map(|score| &**score)
    }

    fn push(&mut self, source: &str, fix: Fix) -> Result<()> {
        self.count = self.count.saturating_add(1);
        if self.count > MAX_FIXES {
            return Err(Error::limit("feeds of more than 4000000 statements"));
        }
        match self.fixes.get_mut(source) {
            Some(fixes) => fixes.push(fix),
            None => {
                self.fixes.insert(source.into(), vec![fix]);
            }
        }
        Ok(())
    }

    fn knows(&self) -> BTreeSet<Box<str>> {
        let all = self.fixes.values().flatten();
        all.map(|fix| fix.cve.clone()).collect()
    }

    fn add(&mut self, path: &Path, kind: FeedKind) -> Result<()> {
        let file = open(path)?;
        let digest = digest_of(&file)?;
        let mut input = unpacked(file, path)?;
        let before = self.unread;
        let entries = match kind {
            FeedKind::DebianTracker => tracker::read(&mut input, self),
            FeedKind::DebianAdvisories => advisory_list::read(&mut input, self),
            FeedKind::Exploited => {
                let known = self.knows();
                tracker::read_exploited(&mut input, |cve| {
                    if known.contains(cve) {
                        self.exploited.insert(cve.into());
                    }
                })
            }
            FeedKind::Epss => {
                let known = self.knows();
                epss::read(&mut input, |cve, score| {
                    if known.contains(cve) {
                        self.scores.insert(cve.into(), score.into());
                    }
                })
            }
        }
        .map_err(|error| error.in_file(path.display()))?;
        self.feeds.push(Feed {
            name: path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            kind,
            digest,
            entries,
            unread: self.unread.saturating_sub(before),
        });
        Ok(())
    }
}

fn open(path: &Path) -> Result<HostFile> {
    let file = HostFile::open(path)?;
    if file.len() > MAX_FEED {
        return Err(Error::limit("a feed of more than 1 GiB").in_file(path.display()));
    }
    Ok(file)
}

fn unpacked(file: HostFile, path: &Path) -> Result<impl BufRead> {
    let suffix = path.extension().and_then(|suffix| suffix.to_str());
    let codec = match suffix {
        Some("gz") => Codec::Gzip,
        Some("xz") => Codec::Xz,
        Some("zst") => Codec::Zstd,
        _ => Codec::Plain,
    };
    codec.open(stream(file))
}

/// The files of a feed: itself, or everything in the folder and the folders in it.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![(path.to_owned(), 0_u8)];
    while let Some((folder, depth)) = folders.pop() {
        let fail = |error| Error::io("cannot list the feed", error).in_file(folder.display());
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if found.len() >= MAX_FILES {
                return Err(
                    Error::limit("more than 1000 files in a feed").in_file(folder.display())
                );
            }
            if path.is_dir() {
                if depth < 2 {
                    folders.push((path, depth.saturating_add(1)));
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What a file is, by its beginning.
fn kind_of(path: &Path) -> Result<FeedKind> {
    let mut head = Vec::new();
    unpacked(open(path)?, path)?
        .take(64 << 10)
        .read_to_end(&mut head)
        .map_err(|error| Error::io("cannot read the feed", error).in_file(path.display()))?;
    let text = String::from_utf8_lossy(&head);
    let start = text.trim_start();
    let unknown = || {
        let what = "neither the Debian tracker's JSON, a list of its advisories, CISA's catalogue nor EPSS scores";
        Error::unsupported(what).in_file(path.display())
    };
    match start.chars().next() {
        Some('{') if start.contains("\"catalogVersion\"") => Ok(FeedKind::Exploited),
        Some('{') => Ok(FeedKind::DebianTracker),
        Some('[') if advisory_list::is_heading(start.lines().next().unwrap_or_default()) => {
            Ok(FeedKind::DebianAdvisories)
        }
        Some('#') if start.starts_with("#model_version") => Ok(FeedKind::Epss),
        _ if start.starts_with("cve,epss") => Ok(FeedKind::Epss),
        _ => Err(unknown()),
    }
}

/// `CVE-2024-1234`; other names (`TEMP-…`) are the tracker's own and stand for no CVE yet.
pub(crate) fn is_cve(text: &str) -> bool {
    let digits = |part: &str, least: usize| {
        part.len() >= least && part.len() <= 19 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.strip_prefix("CVE-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(year, number)| year.len() == 4 && digits(year, 4) && digits(number, 4))
}
