//! EPSS scores: `cve,epss,percentile` lines after a comment and a heading.

use std::io::BufRead;

use dormouse_block::{Error, Result};

use super::is_cve;

/// Bytes of one line. Real ones have fewer than 60.
const MAX_LINE: u64 = 4096;

/// Reads scores; how many there were.
pub(super) fn read(input: &mut impl BufRead, mut take: impl FnMut(&str, &str)) -> Result<usize> {
    let mut count = 0_usize;
    let mut line = String::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut *input, MAX_LINE)
            .read_line(&mut line)
            .map_err(|error| Error::io("cannot read the scores", error))?;
        if read == 0 {
            return Ok(count);
        }
        let mut parts = line.trim().split(',');
        if let (Some(cve), Some(score)) = (parts.next(), parts.next())
            && is_cve(cve)
        {
            let is_probability = score
                .parse::<f64>()
                .is_ok_and(|score| (0.0..=1.0).contains(&score));
            if !is_probability {
                return Err(Error::corrupt(format!("a bad score of {cve}: {score:?}")));
            }
            take(cve, score);
            count = count.saturating_add(1);
        }
    }
}
