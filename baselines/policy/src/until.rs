//! The end of a waiver: a date, or an instant.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first instant at which something no longer counts.
///
/// A baseline writes a date (`2026-12-31`, the last day on which it counts, in UTC) or an instant with its offset
/// (`2026-12-31T12:00:00Z`), as TOML's own kinds or as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until(Timestamp);

impl Until {
    /// Whether it is still to come at `as_of`.
    #[must_use]
    pub fn is_after(self, as_of: Timestamp) -> bool {
        as_of < self.0
    }

    /// The instant.
    #[must_use]
    pub fn instant(self) -> Timestamp {
        self.0
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        const BAD: &str =
            "neither a date such as 2026-12-31 nor an instant such as 2026-12-31T12:00:00Z";
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(Self(instant));
        }
        if text.len() != "2026-12-31".len() {
            return Err(BAD);
        }
        let last: Date = text.parse().map_err(|_| BAD)?;
        let next = last.tomorrow().map_err(|_| BAD)?;
        let zoned = next.to_zoned(TimeZone::UTC).map_err(|_| BAD)?;
        Ok(Self(zoned.timestamp()))
    }
}

impl Serialize for Until {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DateOrText;

        impl<'de> Visitor<'de> for DateOrText {
            type Value = Until;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date such as 2026-12-31 or an instant such as 2026-12-31T12:00:00Z")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Until, E> {
                Until::parse(text).map_err(E::custom)
            }

            // TOML's own dates come as a map of one private key.
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Until, A::Error> {
                let date = toml::value::Datetime::deserialize(MapAccessDeserializer::new(map))?;
                Until::parse(&date.to_string()).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(DateOrText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        until: Until,
    }

    #[test]
    fn a_date_counts_to_its_end_and_an_instant_until_it_comes() {
        for (text, end) in [
            ("until = 2026-12-31", "2027-01-01T00:00:00Z"),
            ("until = '2026-12-31'", "2027-01-01T00:00:00Z"),
            ("until = 2026-12-31T12:00:00+01:00", "2026-12-31T11:00:00Z"),
            ("until = '2026-12-31T12:00:00Z'", "2026-12-31T12:00:00Z"),
        ] {
            let until = toml::from_str::<Holder>(text).unwrap().until;
            let end: Timestamp = end.parse().unwrap();
            assert_eq!(until.instant(), end, "{text}");
            assert!(!until.is_after(end));
        }
        for text in [
            "until = 12:00:00",
            "until = 2026-12-31T12:00:00",
            "until = 'soon'",
            "until = 5",
        ] {
            assert!(toml::from_str::<Holder>(text).is_err(), "{text}");
        }
    }
}
