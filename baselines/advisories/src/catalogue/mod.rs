//! A feed in its compiled form: statements in the order of the packages that they speak of, every text once.
//!
//! A feed is compiled once and kept by its digest; what is kept is read where it lies. A statement takes 48 bytes, an
//! advisory 68, and each distinct text itself and 4.

mod builder;
mod symbols;

use std::sync::Arc;

use dormouse_block::{Digest, Result, array_at, le_u32, le_u64, slice_at};
use dormouse_packages::Family;
use jiff::Timestamp;

pub(crate) use builder::Builder;
pub(crate) use symbols::Symbols;

use crate::severity::Severity;
use crate::statement::{Advisory, Exploitation, Known, Names, Statement, Status};

/// What the form begins with; the last byte is its version.
const MAGIC: &[u8; 8] = b"DMADVIS\x01";
/// Magic, digest, date, counts.
const HEADER: usize = 8 + 32 + 8 + 11 * 4;
/// Of the digest at the end.
const TRAILER: usize = 32;
/// Numbers of each row.
const STATEMENT: usize = 12;
const ADVISORY: usize = 17;
const FACT: usize = 5;
const SCOPE: usize = 3;
/// No instant.
const NEVER: i64 = i64::MIN;

/// Kinds of facts about CVEs.
const FACT_EXPLOITED: u32 = 0;
const FACT_SCORE: u32 = 1;
const FACT_DECISION: u32 = 2;

/// What a feed's reader counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Documents, or entries of the one document.
    pub(crate) documents: u32,
    /// Statements whose version does not read, left out.
    pub(crate) unread: u32,
    /// Statements about what no inventory here has.
    pub(crate) elsewhere: u32,
    /// Files of an archive or folder that are no documents.
    pub(crate) other_files: u32,
}

/// A compiled feed. Cloning it is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    bytes: Arc<Vec<u8>>,
    date: Option<Timestamp>,
    counts: Counts,
    symbols: usize,
    /// Where each section starts, and how many rows it has.
    ends_at: usize,
    lists_at: usize,
    advisories_at: usize,
    advisories: usize,
    statements_at: usize,
    statements: usize,
    facts_at: usize,
    facts: usize,
    scopes_at: usize,
    scopes: usize,
    text_at: usize,
}

fn wide(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Catalogue {
    /// Reads the form of the feed of this digest; `None` when it is another's, another version's or damaged.
    pub(crate) fn from_kept(bytes: Vec<u8>, digest: Digest) -> Option<Self> {
        let body = bytes.len().checked_sub(TRAILER)?;
        let (kept, trailer) = bytes.split_at_checked(body)?;
        if Digest::of(kept).as_bytes() != trailer {
            return None;
        }
        Self::of(bytes, digest).ok().flatten()
    }

    fn of(bytes: Vec<u8>, digest: Digest) -> Result<Option<Self>> {
        if slice_at(&bytes, 0, 8)? != MAGIC || array_at::<32>(&bytes, 8)? != *digest.as_bytes() {
            return Ok(None);
        }
        let count = |number: usize| -> Result<u32> {
            le_u32(&bytes, number.saturating_mul(4).saturating_add(48))
        };
        let rows =
            |count: u32, numbers: usize| wide(count).saturating_mul(numbers).saturating_mul(4);
        let (symbols, lists) = (count(0)?, count(1)?);
        let (advisories, statements) = (count(2)?, count(3)?);
        let (facts, scopes, text) = (count(4)?, count(5)?, count(6)?);
        let ends_at = HEADER;
        let lists_at = ends_at.saturating_add(rows(symbols, 1));
        let advisories_at = lists_at.saturating_add(rows(lists, 1));
        let statements_at = advisories_at.saturating_add(rows(advisories, ADVISORY));
        let facts_at = statements_at.saturating_add(rows(statements, STATEMENT));
        let scopes_at = facts_at.saturating_add(rows(facts, FACT));
        let text_at = scopes_at.saturating_add(rows(scopes, SCOPE));
        let end = text_at.saturating_add(wide(text)).saturating_add(TRAILER);
        if end != bytes.len() {
            return Ok(None);
        }
        let seconds = i64::from_le_bytes(le_u64(&bytes, 40)?.to_le_bytes());
        Ok(Some(Self {
            date: instant(seconds),
            counts: Counts {
                documents: count(7)?,
                unread: count(8)?,
                elsewhere: count(9)?,
                other_files: count(10)?,
            },
            symbols: wide(symbols),
            ends_at,
            lists_at,
            advisories_at,
            advisories: wide(advisories),
            statements_at,
            statements: wide(statements),
            facts_at,
            facts: wide(facts),
            scopes_at,
            scopes: wide(scopes),
            text_at,
            bytes: Arc::new(bytes),
        }))
    }

    /// The form to keep.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.bytes
    }

    /// The feed's own date, else its newest statement's.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        self.date
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn len(&self) -> usize {
        self.statements
    }

    pub(crate) fn advisory_count(&self) -> usize {
        self.advisories
    }

    pub(crate) fn fact_count(&self) -> usize {
        self.facts
    }

    fn number(&self, section: usize, row: usize, width: usize, column: usize) -> u32 {
        let at = row
            .saturating_mul(width)
            .saturating_add(column)
            .saturating_mul(4)
            .saturating_add(section);
        le_u32(&self.bytes, at).unwrap_or_default()
    }

    fn bytes_of(&self, number: u32) -> &[u8] {
        let number = wide(number);
        if number == 0 || number >= self.symbols {
            return &[];
        }
        let end = |number: usize| wide(self.number(self.ends_at, number, 1, 0));
        let start = end(number.saturating_sub(1)).saturating_add(self.text_at);
        self.bytes
            .get(start..end(number).saturating_add(self.text_at))
            .unwrap_or_default()
    }

    fn text(&self, number: u32) -> &str {
        std::str::from_utf8(self.bytes_of(number)).unwrap_or_default()
    }

    fn some(&self, number: u32) -> Option<&str> {
        (number != 0).then(|| self.text(number))
    }

    fn list(&self, start: u32, len: u32) -> impl Iterator<Item = u32> + '_ {
        let start = wide(start);
        let end = start.saturating_add(wide(len));
        (start..end).map(|at| self.number(self.lists_at, at, 1, 0))
    }

    fn key(&self, row: usize) -> (u32, &[u8]) {
        let packed = self.number(self.statements_at, row, STATEMENT, 11);
        let name = self.number(self.statements_at, row, STATEMENT, 0);
        (packed & 0xff, self.bytes_of(name))
    }

    /// The numbers of the statements about a package's name.
    pub(crate) fn about(&self, family: Family, name: &str) -> std::ops::Range<usize> {
        let wanted = (family_number(family), name.as_bytes());
        let start = partition(self.statements, |row| self.key(row) < wanted);
        let mut end = start;
        while end < self.statements && self.key(end) == wanted {
            end = end.saturating_add(1);
        }
        start..end
    }

    /// A statement, and the numbers of the advisories that make it.
    pub(crate) fn statement(&self, row: usize) -> Option<(Statement<'_>, Vec<u32>)> {
        if row >= self.statements {
            return None;
        }
        let number = |column| self.number(self.statements_at, row, STATEMENT, column);
        let packed = number(11);
        let statement = Statement {
            family: family_of(packed & 0xff)?,
            package: self.text(number(0)),
            names: match (packed >> 8) & 0xff {
                0 => Names::Binary,
                1 => Names::Source,
                _ => Names::Either,
            },
            status: match (packed >> 16) & 0xff {
                0 => Status::Affected,
                1 => Status::NotAffected,
                2 => Status::Fixed,
                _ => Status::UnderInvestigation,
            },
            release: self.text(number(1)),
            architectures: self.text(number(2)),
            module: self.text(number(3)),
            introduced: self.some(number(4)),
            fixed: self.some(number(5)),
            last_affected: self.some(number(6)),
            note: self.some(number(7)),
            shipped_by: self.some(number(8)),
        };
        Some((statement, self.list(number(9), number(10)).collect()))
    }

    /// An advisory by its number.
    pub(crate) fn advisory(&self, row: u32) -> Option<Advisory<'_>> {
        let row = wide(row);
        if row >= self.advisories {
            return None;
        }
        let number = |column| self.number(self.advisories_at, row, ADVISORY, column);
        let texts = |start, len| -> Vec<&str> {
            self.list(start, len)
                .map(|number| self.text(number))
                .collect()
        };
        let seconds = |low: u32, high: u32| {
            instant(i64::from_le_bytes(
                (u64::from(low) | (u64::from(high) << 32)).to_le_bytes(),
            ))
        };
        let flags = number(2);
        Some(Advisory {
            id: self.text(number(0)),
            word: self.some(number(1)),
            severity: wide(flags & 0xff)
                .checked_sub(1)
                .and_then(|at| Severity::ALL.get(at).copied()),
            withdrawn: flags & 0x100 != 0,
            vector: self.some(number(3)),
            score: self.some(number(4)),
            published: seconds(number(5), number(6)),
            modified: seconds(number(7), number(8)),
            cves: texts(number(9), number(10)),
            aliases: texts(number(11), number(12)),
            references: texts(number(13), number(14)),
        })
    }

    /// The releases that it speaks of, each with its family.
    pub(crate) fn releases(&self) -> impl Iterator<Item = (Family, &str)> {
        (0..self.scopes).filter_map(|row| {
            let number = |column| self.number(self.scopes_at, row, SCOPE, column);
            Some((family_of(number(0))?, self.text(number(1))))
        })
    }

    /// Adds what it knows of a CVE.
    pub(crate) fn know<'a>(&'a self, cve: &str, known: &mut Known<'a>) {
        let name = |row: usize| self.bytes_of(self.number(self.facts_at, row, FACT, 0));
        let mut row = partition(self.facts, |row| name(row) < cve.as_bytes());
        while row < self.facts && name(row) == cve.as_bytes() {
            let number = |column| self.number(self.facts_at, row, FACT, column);
            let date = |column| self.some(number(column))?.parse().ok();
            match number(1) {
                FACT_EXPLOITED => {
                    known.exploited = true;
                    known.since = known.since.or_else(|| date(2));
                    known.due = known.due.or_else(|| date(3));
                    known.ransomware |= number(4) != 0;
                }
                FACT_SCORE => known.epss = self.some(number(2)),
                _ => {
                    let flags = number(4);
                    let exploitation = match flags & 3 {
                        1 => Some(Exploitation::None),
                        2 => Some(Exploitation::Poc),
                        3 => Some(Exploitation::Active),
                        _ => None,
                    };
                    let said = |bits: u32| (bits != 0).then_some(bits == 2);
                    known.exploited |= exploitation == Some(Exploitation::Active);
                    known.exploitation = known.exploitation.max(exploitation);
                    known.automatable = known.automatable.max(said((flags >> 2) & 3));
                    known.total_impact = known.total_impact.max(said((flags >> 4) & 3));
                }
            }
            row = row.saturating_add(1);
        }
    }
}

/// The first of `count` rows of which `before` does not hold.
fn partition(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    low
}

fn instant(seconds: i64) -> Option<Timestamp> {
    (seconds != NEVER).then(|| Timestamp::from_second(seconds).ok())?
}

/// Families by number, in the table's order, which the form's version stands for.
fn family_number(family: Family) -> u32 {
    let at = Family::all().position(|one| one == family);
    at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX)
}

fn family_of(number: u32) -> Option<Family> {
    Family::all().nth(wide(number))
}
