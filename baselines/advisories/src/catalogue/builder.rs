//! Compiling: statements as they come, sorted at the end.

use std::collections::{BTreeMap, HashMap};

use dormouse_block::{Digest, Error, Result};
use dormouse_packages::Family;
use dormouse_packages::dpkg::Version;
use jiff::Timestamp;
use jiff::civil::Date;

use super::symbols::Symbols;
use super::{
    ADVISORY, Catalogue, Counts, FACT, FACT_DECISION, FACT_EXPLOITED, FACT_SCORE, HEADER, MAGIC,
    NEVER, STATEMENT, TRAILER, family_number,
};
use crate::severity::{Severity, score_of};
use crate::statement::{AdvisoryDraft, Claim, Exploitation, Names, Status};

/// Statements, advisories and facts of one feed. Debian's tracker makes 200,000 statements, all of Red Hat's VEX two million once
/// architectures are joined.
const MAX_STATEMENTS: usize = 4_000_000;
const MAX_ADVISORIES: usize = 2_000_000;
const MAX_FACTS: usize = 2_000_000;
/// Names and references of one advisory. A kernel's has fewer than 3,000.
const MAX_LISTED: usize = 10_000;
/// References kept of one advisory.
const REFERENCES: usize = 4;

/// A feed being compiled.
#[derive(Debug)]
pub(crate) struct Builder {
    symbols: Symbols,
    lists: Vec<u32>,
    known_lists: HashMap<Vec<u32>, u32>,
    advisories: Vec<[u32; ADVISORY]>,
    statements: Vec<[u32; STATEMENT]>,
    facts: Vec<[u32; FACT]>,
    /// The feed's own date.
    date: Option<Timestamp>,
    /// The newest statement's.
    newest: Option<Timestamp>,
    counts: Counts,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            symbols: Symbols::new(),
            lists: Vec::new(),
            known_lists: HashMap::new(),
            advisories: Vec::new(),
            statements: Vec::new(),
            facts: Vec::new(),
            date: None,
            newest: None,
            counts: Counts::default(),
        }
    }

    /// The feed was made at this instant; the latest of several counts.
    pub(crate) fn dated(&mut self, date: Timestamp) {
        self.date = self.date.max(Some(date));
    }

    /// One document, or entry of the one document, was read.
    pub(crate) fn entry(&mut self) {
        self.counts.documents = self.counts.documents.saturating_add(1);
    }

    /// A statement whose version does not read was left out.
    pub(crate) fn unread(&mut self) {
        self.counts.unread = self.counts.unread.saturating_add(1);
    }

    /// A statement about what no inventory here has was left out.
    pub(crate) fn elsewhere(&mut self) {
        self.counts.elsewhere = self.counts.elsewhere.saturating_add(1);
    }

    /// A file that is no document was passed over.
    pub(crate) fn other_file(&mut self) {
        self.counts.other_files = self.counts.other_files.saturating_add(1);
    }

    fn list(&mut self, numbers: Vec<u32>) -> Result<(u32, u32)> {
        let full = || Error::limit("a feed of more than 4294967295 names");
        if numbers.is_empty() {
            return Ok((0, 0));
        }
        let len = u32::try_from(numbers.len()).map_err(|_| full())?;
        if let Some(&start) = self.known_lists.get(&numbers) {
            return Ok((start, len));
        }
        let start = u32::try_from(self.lists.len()).map_err(|_| full())?;
        self.lists.extend_from_slice(&numbers);
        self.known_lists.insert(numbers, start);
        Ok((start, len))
    }

    fn texts<'a>(&mut self, texts: impl Iterator<Item = &'a String>) -> Result<(u32, u32)> {
        let mut numbers = Vec::new();
        for text in texts {
            if numbers.len() >= MAX_LISTED {
                return Err(Error::limit("an advisory of more than 10000 names"));
            }
            let number = self.symbols.number(text)?;
            if number != 0 && !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        self.list(numbers)
    }

    /// Adds an advisory; its number is for [`Builder::state`].
    pub(crate) fn advisory(&mut self, draft: &AdvisoryDraft) -> Result<u32> {
        if self.advisories.len() >= MAX_ADVISORIES {
            return Err(Error::limit("a feed of more than 2000000 advisories"));
        }
        if draft.id.is_empty() {
            return Err(Error::corrupt("an advisory without a name"));
        }
        self.newest = self.newest.max(draft.modified).max(draft.published);
        let computed = draft.vector.as_deref().and_then(score_of);
        let stated = draft.score.as_deref().and_then(|score| score.parse().ok());
        let severity = draft
            .severity
            .or_else(|| draft.word.as_deref().and_then(Severity::of_word))
            .or_else(|| stated.or(computed).and_then(Severity::of_score));
        let place = |severity| Severity::ALL.iter().position(|one| *one == severity);
        let severity = severity
            .and_then(place)
            .and_then(|at| u32::try_from(at).ok())
            .map_or(0, |at| at.saturating_add(1));
        let score = draft
            .score
            .clone()
            .or_else(|| computed.map(|score| format!("{score:.1}")));
        let halves = |instant: Option<Timestamp>| {
            let seconds = instant.map_or(NEVER, Timestamp::as_second);
            let bytes = u64::from_le_bytes(seconds.to_le_bytes());
            let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
            (half(bytes), half(bytes >> 32))
        };
        let (published, modified) = (halves(draft.published), halves(draft.modified));
        let cves = self.texts(draft.cves.iter())?;
        let aliases = self.texts(draft.aliases.iter())?;
        let references = self.texts(draft.references.iter().take(REFERENCES))?;
        let row = [
            self.symbols.number(&draft.id)?,
            self.symbols
                .number(draft.word.as_deref().unwrap_or_default())?,
            severity | (u32::from(draft.withdrawn) << 8),
            self.symbols
                .number(draft.vector.as_deref().unwrap_or_default())?,
            self.symbols.number(&score.unwrap_or_default())?,
            published.0,
            published.1,
            modified.0,
            modified.1,
            cves.0,
            cves.1,
            aliases.0,
            aliases.1,
            references.0,
            references.1,
            0,
            0,
        ];
        let number = u32::try_from(self.advisories.len())
            .map_err(|_| Error::limit("a feed of too many advisories"))?;
        self.advisories.push(row);
        Ok(number)
    }

    /// Adds a statement that these advisories make.
    ///
    /// # Errors
    /// `Corrupt` for a name or version that is none of its family, `Limit` past a named bound.
    pub(crate) fn state(&mut self, claim: &Claim, advisories: &[u32]) -> Result<()> {
        if self.statements.len() >= MAX_STATEMENTS {
            return Err(Error::limit("a feed of more than 4000000 statements"));
        }
        if claim.package.is_empty() || claim.package.chars().any(char::is_control) {
            return Err(Error::corrupt(format!("{:?} is no package", claim.package)));
        }
        for version in [&claim.introduced, &claim.fixed, &claim.last_affected] {
            if !is_version(claim.family, version) {
                return Err(Error::corrupt(format!(
                    "{version:?} is no version of {}",
                    claim.package
                )));
            }
        }
        let (start, len) = self.list(advisories.to_vec())?;
        let names = match claim.names {
            Names::Binary => 0,
            Names::Source => 1,
            Names::Either => 2,
        };
        let status = match claim.status {
            Status::Affected => 0,
            Status::NotAffected => 1,
            Status::Fixed => 2,
            Status::UnderInvestigation => 3,
        };
        let row = [
            self.symbols.number(&claim.package)?,
            self.symbols.number(&claim.release)?,
            self.symbols.number(&claim.architectures)?,
            self.symbols.number(&claim.module)?,
            self.symbols.number(&claim.introduced)?,
            self.symbols.number(&claim.fixed)?,
            self.symbols.number(&claim.last_affected)?,
            self.symbols.number(&claim.note)?,
            self.symbols.number(&claim.shipped_by)?,
            start,
            len,
            family_number(claim.family) | (names << 8) | (status << 16),
        ];
        self.statements.push(row);
        Ok(())
    }

    fn fact(&mut self, row: [u32; FACT]) -> Result<()> {
        if self.facts.len() >= MAX_FACTS {
            return Err(Error::limit("a feed about more than 2000000 CVEs"));
        }
        self.facts.push(row);
        Ok(())
    }

    /// A catalogue of exploited vulnerabilities has a CVE.
    pub(crate) fn exploited(
        &mut self,
        cve: &str,
        since: Option<Date>,
        due: Option<Date>,
        ransomware: bool,
    ) -> Result<()> {
        let text = |date: Option<Date>| date.map(|date| date.to_string()).unwrap_or_default();
        let row = [
            self.symbols.number(cve)?,
            FACT_EXPLOITED,
            self.symbols.number(&text(since))?,
            self.symbols.number(&text(due))?,
            u32::from(ransomware),
        ];
        self.fact(row)
    }

    /// The probability that a CVE is exploited.
    pub(crate) fn score(&mut self, cve: &str, score: &str) -> Result<()> {
        let row = [
            self.symbols.number(cve)?,
            FACT_SCORE,
            self.symbols.number(score)?,
            0,
            0,
        ];
        self.fact(row)
    }

    /// SSVC's decision points of a CVE.
    pub(crate) fn decision(
        &mut self,
        cve: &str,
        exploitation: Option<Exploitation>,
        automatable: Option<bool>,
        total_impact: Option<bool>,
    ) -> Result<()> {
        let exploitation = match exploitation {
            None => 0,
            Some(Exploitation::None) => 1,
            Some(Exploitation::Poc) => 2,
            Some(Exploitation::Active) => 3,
        };
        let said = |answer: Option<bool>| answer.map_or(0, |answer| 1 + u32::from(answer));
        let flags = exploitation | (said(automatable) << 2) | (said(total_impact) << 4);
        let row = [self.symbols.number(cve)?, FACT_DECISION, 0, 0, flags];
        self.fact(row)
    }

    /// The compiled form of the feed of this digest.
    pub(crate) fn finish(mut self, digest: Digest) -> Result<Catalogue> {
        self.symbols.seal();
        self.known_lists = HashMap::new();
        let symbols = &self.symbols;
        let last = STATEMENT.saturating_sub(1);
        let packed = |row: &[u32; STATEMENT]| row.get(last).copied().unwrap_or_default();
        let key = |row: &[u32; STATEMENT]| {
            let [name, ..] = row;
            (packed(row) & 0xff, symbols.get(*name))
        };
        // Numbers of texts are in the order of their first use, which the feed gives: so is the rest of the order.
        self.statements
            .sort_unstable_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.cmp(b)));
        self.statements.dedup();
        self.facts.sort_unstable_by(|a, b| {
            let ([one, ..], [other, ..]) = (a, b);
            symbols
                .get(*one)
                .cmp(symbols.get(*other))
                .then_with(|| a.cmp(b))
        });
        self.facts.dedup();
        let mut scopes = BTreeMap::<(u32, u32), u32>::new();
        for row in &self.statements {
            let [_, release, ..] = row;
            let count = scopes.entry((packed(row) & 0xff, *release)).or_default();
            *count = count.saturating_add(1);
        }
        let too_many = |_| Error::limit("a feed of more than 4294967295 rows");
        let count = |n: usize| u32::try_from(n).map_err(too_many);
        let counts = [
            count(self.symbols.ends.len())?,
            count(self.lists.len())?,
            count(self.advisories.len())?,
            count(self.statements.len())?,
            count(self.facts.len())?,
            count(scopes.len())?,
            count(self.symbols.text.len())?,
            self.counts.documents,
            self.counts.unread,
            self.counts.elsewhere,
            self.counts.other_files,
        ];
        let numbers = counts.len().saturating_mul(4).saturating_add(
            self.statements
                .len()
                .saturating_mul(STATEMENT)
                .saturating_add(self.advisories.len().saturating_mul(ADVISORY))
                .saturating_add(self.symbols.ends.len())
                .saturating_add(self.lists.len())
                .saturating_add(self.facts.len().saturating_mul(FACT))
                .saturating_mul(4),
        );
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(
                numbers
                    .saturating_add(HEADER)
                    .saturating_add(scopes.len().saturating_mul(12))
                    .saturating_add(self.symbols.text.len())
                    .saturating_add(TRAILER),
            )
            .map_err(|_| Error::limit("a feed that does not fit into memory"))?;
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(digest.as_bytes());
        let seconds = self
            .date
            .or(self.newest)
            .map_or(NEVER, Timestamp::as_second);
        bytes.extend_from_slice(&seconds.to_le_bytes());
        let mut put = |numbers: &[u32]| {
            for number in numbers {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        };
        put(&counts);
        put(&std::mem::take(&mut self.symbols.ends));
        put(&std::mem::take(&mut self.lists));
        put(std::mem::take(&mut self.advisories).as_flattened());
        put(std::mem::take(&mut self.statements).as_flattened());
        put(std::mem::take(&mut self.facts).as_flattened());
        for ((family, release), count) in scopes {
            put(&[family, release, count]);
        }
        bytes.extend_from_slice(&self.symbols.text);
        let trailer = Digest::of(&bytes);
        bytes.extend_from_slice(trailer.as_bytes());
        Catalogue::of(bytes, digest)?
            .ok_or_else(|| Error::corrupt("a compiled feed that is not what was written"))
    }
}

/// Whether a version reads in its family; the empty one stands for none.
fn is_version(family: Family, version: &str) -> bool {
    if version.is_empty() {
        return true;
    }
    if version.len() > 256 || version.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return false;
    }
    family != Family::Dpkg || Version::parse(version).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_is_read_again_and_damage_is_found() {
        let mut builder = Builder::new();
        let draft = AdvisoryDraft {
            id: "DSA-1".into(),
            cves: vec!["CVE-2026-0001".into(), "CVE-2026-0002".into()],
            vector: Some("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H".into()),
            published: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            ..AdvisoryDraft::default()
        };
        let number = builder.advisory(&draft).unwrap();
        for name in ["zlib", "curl", "bash", "curl"] {
            let claim = Claim::new(Family::Dpkg, name, Names::Source, "debian:12").fixed_in("1-2");
            builder.state(&claim, &[number]).unwrap();
        }
        builder.score("CVE-2026-0001", "0.5").unwrap();
        builder
            .decision(
                "CVE-2026-0001",
                Some(Exploitation::Active),
                Some(true),
                Some(false),
            )
            .unwrap();
        let bad = Claim::new(Family::Dpkg, "a", Names::Source, "").fixed_in("no version");
        assert!(builder.state(&bad, &[number]).is_err());
        let digest = Digest::of("x");
        let built = builder.finish(digest).unwrap();
        let bytes = built.kept().to_vec();
        let read = Catalogue::from_kept(bytes.clone(), digest).unwrap();
        assert_eq!(read.len(), 3, "the same statement twice is one");
        assert_eq!(read.about(Family::Dpkg, "curl"), 1..2);
        assert!(read.about(Family::Dpkg, "cur").is_empty());
        assert!(read.about(Family::Rpm, "curl").is_empty());
        let (statement, advisories) = read.statement(1).unwrap();
        assert_eq!((statement.package, statement.fixed), ("curl", Some("1-2")));
        let advisory = read.advisory(advisories[0]).unwrap();
        assert_eq!(advisory.cves, ["CVE-2026-0001", "CVE-2026-0002"]);
        assert_eq!(advisory.severity, Some(Severity::Critical));
        assert_eq!(advisory.score, Some("9.8"));
        let mut known = crate::statement::Known::default();
        read.know("CVE-2026-0001", &mut known);
        assert!(known.exploited && known.epss == Some("0.5"));
        assert_eq!(
            (known.automatable, known.total_impact),
            (Some(true), Some(false))
        );
        assert_eq!(read.date().unwrap().to_string(), "2026-01-01T00:00:00Z");
        assert!(Catalogue::from_kept(bytes.clone(), Digest::of("y")).is_none());
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x40;
            assert!(Catalogue::from_kept(broken, digest).is_none(), "{at}");
            assert!(Catalogue::from_kept(bytes[..at].to_vec(), digest).is_none());
        }
    }
}
