//! How long a finding may stay.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The longest time that a rule may give, in days: ten years. More is a slip of the pen.
const MAX_DAYS: u32 = 3660;

/// The time that a rule gives. Written `12 hours`, `3 days`, `1 month` or `next upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Within {
    /// So many hours.
    Hours(u32),
    /// So many days of 24 hours.
    Days(u32),
    /// So many calendar months in UTC: one from 31 January ends on the last day of February.
    Months(u32),
    /// Whenever the system is upgraded next: no instant.
    NextUpgrade,
}

impl Within {
    /// The instant at which the time is over when it began at `since`; none for the next upgrade.
    #[must_use]
    pub fn end(self, since: Timestamp) -> Option<Timestamp> {
        let after = match self {
            Self::NextUpgrade => return None,
            Self::Hours(hours) => {
                since.checked_add(SignedDuration::from_secs(i64::from(hours) * 3600))
            }
            Self::Days(days) => {
                since.checked_add(SignedDuration::from_secs(i64::from(days) * 86_400))
            }
            Self::Months(months) => since
                .to_zoned(TimeZone::UTC)
                .checked_add(Span::new().months(i64::from(months)))
                .map(|end| end.timestamp()),
        };
        // Past the end of the calendar: it never ends within what can be written.
        Some(after.unwrap_or(Timestamp::MAX))
    }
}

impl FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no time such as \"12 hours\", \"3 days\", \"1 month\" or \"next upgrade\""
            )
        };
        if matches!(text, "next upgrade" | "next-upgrade") {
            return Ok(Self::NextUpgrade);
        }
        let (count, unit) = text.split_once(' ').ok_or_else(bad)?;
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let count: u32 = count.parse().map_err(|_| bad())?;
        let (within, most) = match unit {
            "hour" | "hours" => (Self::Hours(count), MAX_DAYS.saturating_mul(24)),
            "day" | "days" => (Self::Days(count), MAX_DAYS),
            "month" | "months" => (Self::Months(count), MAX_DAYS / 30),
            _ => return Err(bad()),
        };
        if count > most {
            return Err(format!("{text:?} is more than ten years"));
        }
        Ok(within)
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self {
            Self::Hours(count) => (count, "hour"),
            Self::Days(count) => (count, "day"),
            Self::Months(count) => (count, "month"),
            Self::NextUpgrade => return f.write_str("next upgrade"),
        };
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {unit}{plural}")
    }
}

impl Serialize for Within {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A probability, exact to a thousand-millionth, as EPSS publishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probability(u32);

impl Probability {
    const ONE: u32 = 1_000_000_000;
}

impl FromStr for Probability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no probability between 0 and 1");
        // Scores are decimal fractions; the shortest may be in powers of ten (`4e-05`).
        let value: f64 = text.parse().map_err(|_| bad())?;
        if !(0.0..=1.0).contains(&value) {
            return Err(bad());
        }
        let scaled = (value * f64::from(Self::ONE)).round();
        let digits = format!("{scaled:.0}");
        digits.parse().map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / f64::from(Self::ONE))
    }
}

impl<'de> Deserialize<'de> for Probability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        value.to_string().parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_end_by_the_calendar() {
        let end = |text: &str, since: &str| {
            text.parse::<Within>()
                .unwrap()
                .end(since.parse().unwrap())
                .map(|end| end.to_string())
        };
        for (text, since, until) in [
            ("12 hours", "2026-01-01T18:00:00Z", "2026-01-02T06:00:00Z"),
            ("3 days", "2026-02-27T10:00:00Z", "2026-03-02T10:00:00Z"),
            ("1 month", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"),
            ("3 months", "2025-11-30T09:30:00Z", "2026-02-28T09:30:00Z"),
            ("1 month", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z"),
        ] {
            assert_eq!(end(text, since).as_deref(), Some(until), "{text} {since}");
        }
        assert_eq!(end("next upgrade", "2026-01-01T00:00:00Z"), None);
        assert_eq!(
            end("1 day", &Timestamp::MAX.to_string()),
            Some(Timestamp::MAX.to_string())
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "3",
            "days",
            "three days",
            "-3 days",
            "+3 days",
            "3 weeks",
            "3  days",
            "99999 days",
            "4294967296 hours",
            "3 days ",
        ] {
            assert!(text.parse::<Within>().is_err(), "{text}");
        }
        for text in ["12 hours", "1 day", "3 months", "next upgrade"] {
            assert_eq!(text.parse::<Within>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn probabilities_compare_as_written() {
        let p = |text: &str| text.parse::<Probability>().unwrap();
        assert!(p("0.10000") >= p("0.1") && p("0.099999999") < p("0.1"));
        assert!(p("4e-05") < p("0.00005") && p("1") > p("0.999999999"));
        for text in ["", "1.1", "-0.1", "nan", "inf", "x"] {
            assert!(text.parse::<Probability>().is_err(), "{text}");
        }
    }
}
