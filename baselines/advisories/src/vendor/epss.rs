//! EPSS scores: `cve,epss,percentile` lines after a comment and a heading.

use std::io::{BufRead as _, Read as _};

use dormouse_block::{Error, Result};
use jiff::Timestamp;

use super::{Beginning, Document, is_cve};
use crate::catalogue::Builder;

/// Bytes of one line. Real ones have fewer than 60.
const MAX_LINE: u64 = 4096;

pub(super) fn is(beginning: &Beginning<'_>) -> bool {
    beginning.text.starts_with("#model_version") || beginning.text.starts_with("cve,epss")
}

/// The instant of `#model_version:v2025.03.14,score_date:2026-01-01T00:00:00+0000`, whose zone is always UTC.
fn date_of(comment: &str) -> Option<Timestamp> {
    let (_, date) = comment.trim().split_once("score_date:")?;
    let date = date.split(',').next()?;
    let date = date
        .strip_suffix("+0000")
        .or_else(|| date.strip_suffix('Z'))?;
    format!("{date}Z").parse().ok()
}

pub(super) fn read(document: &mut Document<'_>, out: &mut Builder) -> Result<()> {
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        let read = (&mut *document.input)
            .take(MAX_LINE)
            .read_line(&mut line)
            .map_err(|error| Error::io("cannot read the scores", error))?;
        if read == 0 {
            break;
        }
        if line.starts_with('#') {
            if let Some(date) = date_of(&line) {
                out.dated(date);
            }
            continue;
        }
        let mut parts = line.trim().split(',');
        let (cve, score) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        if cve == "cve" {
            continue;
        }
        let is_probability = score
            .parse::<f64>()
            .is_ok_and(|score| (0.0..=1.0).contains(&score));
        if !is_cve(cve) || !is_probability {
            let line: String = line.trim().chars().take(80).collect();
            return Err(Error::corrupt(format!(
                "line {number} is no score of a CVE: {line:?}"
            )));
        }
        out.entry();
        out.score(cve, score)?;
    }
    Ok(())
}
