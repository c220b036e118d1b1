//! Debian's list of advisories, as its security team writes it:
//!
//! ```text
//! [18 Nov 2025] DSA-6058-1 lxd - security update
//! <tab>{CVE-2025-54286 CVE-2025-54287}
//! <tab>[bookworm] - lxd 5.0.2-5+deb12u2
//! ```

use std::io::{BufRead as _, Read as _};

use dormouse_block::{Error, Result};
use dormouse_packages::Family;
use dormouse_packages::dpkg::{Version, is_package_name};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Beginning, Document, is_cve};
use crate::catalogue::Builder;
use crate::statement::{AdvisoryDraft, Claim, Names};

/// Bytes of one line. Real ones have fewer than 10,000.
const MAX_LINE: u64 = 1 << 20;

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    let first = beginning.text.trim_start().lines().next();
    heading(first.unwrap_or_default()).is_some()
}

/// The advisory's date and name.
fn heading(line: &str) -> Option<(&str, &str)> {
    let (date, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let name = rest.split(' ').next()?;
    ["DSA-", "DLA-", "DTSA-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        .then_some((date, name))
}

/// The day `18 Nov 2025`, from its beginning in UTC.
fn day(text: &str) -> Option<Timestamp> {
    let date = Date::strptime("%d %b %Y", text).ok()?;
    let zoned = date.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp())
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let mut advisory = AdvisoryDraft::default();
    let mut number = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut *document.input)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| Error::io("cannot read the advisories", error))?;
        if read == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if let Some((date, name)) = heading(text) {
            out.entry();
            advisory = AdvisoryDraft {
                id: name.to_owned(),
                published: day(date),
                ..AdvisoryDraft::default()
            };
            number = None;
            continue;
        }
        let text = text.trim_start();
        if let Some(list) = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            let names = list.split_ascii_whitespace().filter(|name| is_cve(name));
            advisory.cves.extend(names.map(str::to_owned));
            number = None;
            continue;
        }
        // `[bookworm] - lxd 5.0.2-5+deb12u2`, or a word in angle brackets where nothing was mended.
        let Some((release, rest)) = text
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] - "))
        else {
            continue;
        };
        let mut words = rest.split_ascii_whitespace();
        let (Some(source), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        if version.starts_with('<') || !is_package_name(source) || advisory.id.is_empty() {
            continue;
        }
        // One line of 2004 names its package twice; what cannot be compared mends nothing that is asked about, and is
        // counted.
        let begins_with_a_digit = |version: &Version| {
            let upstream = version.without_epoch();
            upstream.starts_with(|first: char| first.is_ascii_digit())
        };
        let Some(fixed) = Version::parse(version).ok().filter(begins_with_a_digit) else {
            out.unread();
            continue;
        };
        let by = match number {
            Some(number) => number,
            None => out.advisory(&advisory)?,
        };
        number = Some(by);
        let release = format!("debian:{release}");
        let claim = Claim::new(Family::Dpkg, source, Names::Source, &release);
        out.state(&claim.fixed_in(fixed.as_str()), &[by])?;
    }
}
