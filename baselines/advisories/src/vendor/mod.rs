//! What vendors and users say of vulnerabilities, from local files, in one model.
//!
//! Feeds are told apart by what is in them, plain or compressed, one document or an archive or folder of many. Each is read as a
//! stream, compiled once, and kept by its digest where a cache is given.

mod advisory_list;
mod arch;
mod csaf;
mod documents;
mod epss;
mod exploited;
mod head;
mod json;
mod openvex;
mod osv;
mod oval;
mod purl;
mod repodata;
mod secdb;
mod ssvc;
mod tar;
mod tracker;
mod updateinfo;
mod xml;

use std::io::BufRead;
use std::path::PathBuf;

use dormouse_block::{Digest, Result};
use dormouse_packages::Family;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Builder, Catalogue};
use crate::statement::{Advisory, Known, Statement};
use crate::target::BY_PURL;
use crate::{IndexCache, Keyring, Signer, Target};

/// A feed that was read. A fact: evidence carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Feed {
    /// The name of its file, or of the folder of its documents.
    pub name: String,
    /// What it is.
    pub kind: FeedKind,
    /// Its digest; of a folder of documents that of the lines `sha256sum` writes of them, in the order of their paths.
    pub digest: Digest,
    /// Its own date, else that of the newest thing that it says; absent where it says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Timestamp>,
    /// Whether somebody signed it.
    #[serde(default)]
    pub signature: FeedSignature,
    /// Documents in it; entries of the one document that it is.
    #[serde(default)]
    pub documents: usize,
    /// Advisories in it.
    #[serde(default)]
    pub advisories: usize,
    /// Statements about packages and CVEs taken from it.
    pub entries: usize,
    /// Statements whose version does not read, left out.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unread: usize,
    /// Statements about what no inventory here has, left out: other ecosystems, commits, appliances.
    #[serde(default, skip_serializing_if = "is_none")]
    pub elsewhere: usize,
    /// Files of the folder or archive that are no documents.
    #[serde(default, skip_serializing_if = "is_none")]
    pub other_files: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// How a feed stands to a signature of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", deny_unknown_fields)]
pub enum FeedSignature {
    /// There is none beside it.
    #[default]
    Unsigned,
    /// There is one, and no keyring was given to hold it against.
    Unchecked,
    /// It is good.
    Good {
        /// Every good signature by a key of the keyring.
        signers: Vec<Signer>,
    },
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
    /// Open Source Vulnerability documents.
    Osv,
    /// OpenVEX documents.
    OpenVex,
    /// Common Security Advisory Framework documents: advisories and VEX.
    Csaf,
    /// `updateinfo.xml` of rpm repositories.
    UpdateInfo,
    /// OVAL definitions.
    Oval,
    /// Alpine's security database.
    AlpineSecdb,
    /// Arch's issues.
    ArchIssues,
    /// CVE records with CISA's decision points (SSVC).
    Ssvc,
}

/// A document's beginning.
struct Beginning<'a> {
    text: &'a str,
    json: Option<head::Head>,
}

/// A document being read.
struct Document<'a> {
    /// The name of its file, without folders.
    name: &'a str,
    input: &'a mut dyn BufRead,
}

/// Whether a feed's documents come one to an advisory, and so in folders of thousands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grain {
    /// One document has all.
    Whole,
    /// One document for each advisory.
    Single,
}

/// What the rest needs to know of a kind.
struct Row {
    kind: FeedKind,
    grain: Grain,
    is: fn(&Beginning<'_>) -> bool,
    read: fn(&mut Document<'_>, &mut Builder) -> Result<()>,
}

/// One line for each kind; the first that a beginning fits is taken, and the Debian tracker's, which any object fits, is last.
#[rustfmt::skip]
static KINDS: &[Row] = &[
    Row { kind: FeedKind::Exploited, grain: Grain::Whole, is: exploited::is, read: exploited::read },
    Row { kind: FeedKind::Ssvc, grain: Grain::Single, is: ssvc::is, read: ssvc::read },
    Row { kind: FeedKind::OpenVex, grain: Grain::Single, is: openvex::is, read: openvex::read },
    Row { kind: FeedKind::Csaf, grain: Grain::Single, is: csaf::is, read: csaf::read },
    Row { kind: FeedKind::AlpineSecdb, grain: Grain::Whole, is: secdb::is, read: secdb::read },
    Row { kind: FeedKind::ArchIssues, grain: Grain::Whole, is: arch::is, read: arch::read },
    Row { kind: FeedKind::Osv, grain: Grain::Single, is: osv::is, read: osv::read },
    Row { kind: FeedKind::UpdateInfo, grain: Grain::Whole, is: updateinfo::is, read: updateinfo::read },
    Row { kind: FeedKind::Oval, grain: Grain::Whole, is: oval::is, read: oval::read },
    Row { kind: FeedKind::DebianAdvisories, grain: Grain::Whole, is: advisory_list::is, read: advisory_list::read },
    Row { kind: FeedKind::Epss, grain: Grain::Whole, is: epss::is, read: epss::read },
    Row { kind: FeedKind::DebianTracker, grain: Grain::Whole, is: tracker::is, read: tracker::read },
];

/// What a user is told of a file that is none of them.
const NONE_OF_THEM: &str = "no feed that is known: neither OSV, CSAF, OpenVEX, updateinfo, OVAL, Alpine's, Arch's or Debian's, nor \
    exploited vulnerabilities, scores or decision points of CVEs";

impl FeedKind {
    fn row(self) -> Option<&'static Row> {
        KINDS.iter().find(|row| row.kind == self)
    }

    fn grain(self) -> Grain {
        self.row().map_or(Grain::Whole, |row| row.grain)
    }

    /// Whether it speaks of CVEs alone and of no package.
    #[must_use]
    pub fn is_of_cves(self) -> bool {
        matches!(self, Self::Exploited | Self::Epss | Self::Ssvc)
    }
}

/// How feeds are read.
#[derive(Clone, Copy, Default)]
pub struct FeedAccess<'a> {
    /// The keys that signatures beside feeds are held against; without it they are not.
    pub keyring: Option<&'a Keyring>,
    /// The instant judged.
    pub as_of: Timestamp,
    /// Where compiled feeds are kept.
    pub cache: Option<IndexCache<'a>>,
}

/// What all feeds say. Cloning it is cheap.
#[derive(Debug, Clone, Default)]
pub struct Advisories {
    /// In the order of [`Advisories::feeds`].
    catalogues: Vec<Catalogue>,
    feeds: Vec<Feed>,
}

impl Advisories {
    /// Reads feeds: files, or folders of them.
    ///
    /// # Errors
    /// As [`Advisories::read_with`].
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        Self::read_with(paths, &FeedAccess::default())
    }

    /// Reads feeds: files, or folders of them. A folder with a `repomd.xml` is a repository's `repodata`: its `updateinfo` is read,
    /// and held against the digest that the index states.
    ///
    /// # Errors
    /// The host's, `Corrupt` for a feed that does not read, with its file, place and key, `Unsupported` for a file that is none,
    /// `Denied` for one with a bad signature or another digest than its index states, `Limit` past a named bound.
    pub fn read_with(paths: &[PathBuf], access: &FeedAccess<'_>) -> Result<Self> {
        let mut all = Vec::new();
        for path in paths {
            for source in documents::sources(path)? {
                all.push(source.load(access)?);
            }
        }
        // The same file under two paths says nothing twice.
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.dedup_by(|(one, _), (other, _)| one.digest == other.digest && one.kind == other.kind);
        let (feeds, catalogues) = all.into_iter().unzip();
        Ok(Self { catalogues, feeds })
    }

    /// Reads one feed that lies in memory under this name.
    ///
    /// # Errors
    /// As [`Advisories::read_with`].
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let (feed, catalogue) = documents::parse(name, bytes)?;
        Ok(Self {
            catalogues: vec![catalogue],
            feeds: vec![feed],
        })
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

    pub(crate) fn catalogues(&self) -> &[Catalogue] {
        &self.catalogues
    }

    /// How many statements all feeds make.
    #[must_use]
    pub fn statement_count(&self) -> usize {
        let counts = self.catalogues.iter().map(Catalogue::len);
        counts.fold(0, usize::saturating_add)
    }

    /// Every statement of all feeds, with the advisories that make it.
    pub fn statements(&self) -> impl Iterator<Item = (Statement<'_>, Vec<Advisory<'_>>)> {
        self.catalogues.iter().flat_map(|catalogue| {
            (0..catalogue.len()).filter_map(|row| {
                let (statement, numbers) = catalogue.statement(row)?;
                let advisories = numbers
                    .into_iter()
                    .filter_map(|number| catalogue.advisory(number));
                Some((statement, advisories.collect()))
            })
        })
    }

    /// What is known of a CVE itself.
    #[must_use]
    pub fn known(&self, cve: &str) -> Known<'_> {
        let mut known = Known::default();
        for catalogue in &self.catalogues {
            catalogue.know(cve, &mut known);
        }
        known
    }

    /// Whether any feed speaks of a family's packages on a system. A user's own statements about package URLs do not count: they say
    /// nothing of whether all is told.
    #[must_use]
    pub fn speaks_of(&self, target: &Target, family: Family) -> bool {
        self.feeds_about(target, family).next().is_some()
    }

    /// The feeds that speak of a family's packages on a system.
    pub fn feeds_about<'a>(
        &'a self,
        target: &'a Target,
        family: Family,
    ) -> impl Iterator<Item = &'a Feed> {
        let pairs = self.catalogues.iter().zip(&self.feeds);
        pairs
            .filter(move |(catalogue, _)| {
                catalogue.releases().any(|(known, release)| {
                    known == family && !release.starts_with(BY_PURL) && target.is_of(release)
                })
            })
            .map(|(_, feed)| feed)
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
