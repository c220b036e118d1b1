//! Debian's list of advisories, as its security team writes it:
//!
//! ```text
//! [18 Nov 2025] DSA-6058-1 lxd - security update
//! <tab>{CVE-2025-54286 CVE-2025-54287}
//! <tab>[bookworm] - lxd 5.0.2-5+deb12u2
//! ```

use std::io::BufRead;

use dormouse_block::{Error, Result};
use dormouse_packages::dpkg::{Version, is_package_name};

use super::{Advisories, Fix, is_cve};

/// Bytes of one line. Real ones have fewer than 10,000.
const MAX_LINE: u64 = 1 << 20;

/// Whether a line begins an advisory.
pub(super) fn is_heading(line: &str) -> bool {
    heading(line).is_some()
}

/// The advisory's name.
fn heading(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let name = rest.split(' ').next()?;
    ["DSA-", "DLA-", "DTSA-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        .then_some(name)
}

/// Reads a list into `out`; how many statements were taken.
pub(super) fn read(input: &mut impl BufRead, out: &mut Advisories) -> Result<usize> {
    let mut count = 0_usize;
    let mut advisory: Box<str> = Box::default();
    let mut cves: Vec<Box<str>> = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut *input, MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| Error::io("cannot read the advisories", error))?;
        if read == 0 {
            return Ok(count);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if let Some(name) = heading(text) {
            advisory = name.into();
            cves.clear();
            continue;
        }
        let text = text.trim_start();
        if let Some(list) = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            cves.extend(
                list.split_ascii_whitespace()
                    .filter(|name| is_cve(name))
                    .map(Into::into),
            );
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
        if version.starts_with('<') || !is_package_name(source) {
            continue;
        }
        // One line of 2004 names its package twice; what cannot be compared mends nothing that is asked about, and is
        // counted.
        let begins_with_a_digit = |version: &Version| {
            let upstream = version.without_epoch();
            upstream.starts_with(|first: char| first.is_ascii_digit())
        };
        let Some(fixed) = Version::parse(version).ok().filter(begins_with_a_digit) else {
            out.unread = out.unread.saturating_add(1);
            continue;
        };
        for cve in &cves {
            let fix = Fix {
                cve: cve.clone(),
                release: release.into(),
                fixed: fixed.clone(),
                urgency: None,
                advisory: Some(advisory.clone()),
            };
            out.push(source, fix)?;
            count = count.saturating_add(1);
        }
    }
}
