//! Days on which a window opens.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Deserializer, de::Error as _};

/// A day: `mon`, `2nd sat`, `last fri`, `15`, `last day`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Day {
    /// Every such weekday, Monday being 1.
    Weekday(i8),
    /// The first to fifth such weekday of the month.
    Nth(i8, i8),
    /// The last such weekday of the month.
    Last(i8),
    /// The day of the month; a month without it is passed over.
    OfMonth(i8),
    /// The last day of the month.
    LastOfMonth,
}

const WEEKDAYS: [(&str, &str); 7] = [
    ("mon", "monday"),
    ("tue", "tuesday"),
    ("wed", "wednesday"),
    ("thu", "thursday"),
    ("fri", "friday"),
    ("sat", "saturday"),
    ("sun", "sunday"),
];
const ORDINALS: [&str; 5] = ["1st", "2nd", "3rd", "4th", "5th"];

fn weekday(word: &str) -> Option<i8> {
    (1..).zip(WEEKDAYS).find_map(|(number, (short, long))| {
        (word.eq_ignore_ascii_case(short) || word.eq_ignore_ascii_case(long)).then_some(number)
    })
}

fn number(weekday: Weekday) -> i8 {
    weekday.to_monday_one_offset()
}

impl Day {
    /// Whether a date is such a day.
    #[must_use]
    pub fn is(self, date: Date) -> bool {
        let last = date.days_in_month();
        match self {
            Self::Weekday(weekday) => number(date.weekday()) == weekday,
            Self::Nth(nth, weekday) => {
                number(date.weekday()) == weekday && (date.day().saturating_sub(1) / 7) + 1 == nth
            }
            Self::Last(weekday) => {
                number(date.weekday()) == weekday && last.saturating_sub(date.day()) < 7
            }
            Self::OfMonth(day) => date.day() == day,
            Self::LastOfMonth => date.day() == last,
        }
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no day such as \"mon\", \"2nd sat\", \"last fri\", \"15\" or \"last day\""
            )
        };
        if let Some((which, rest)) = text.split_once(' ') {
            if which == "last" && rest == "day" {
                return Ok(Self::LastOfMonth);
            }
            let weekday = weekday(rest).ok_or_else(bad)?;
            if which == "last" {
                return Ok(Self::Last(weekday));
            }
            let nth = (1..).zip(ORDINALS).find(|(_, word)| *word == which);
            return nth.map(|(nth, _)| Self::Nth(nth, weekday)).ok_or_else(bad);
        }
        if let Some(weekday) = weekday(text) {
            return Ok(Self::Weekday(weekday));
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let day: Option<i8> = digits.then(|| text.parse().ok()).flatten();
        day.filter(|day| (1..=31).contains(day))
            .map(Self::OfMonth)
            .ok_or_else(bad)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |list: &[&'static str], number: i8| {
            usize::try_from(number.saturating_sub(1))
                .ok()
                .and_then(|index| list.get(index).copied())
                .unwrap_or_default()
        };
        let days = WEEKDAYS.map(|(short, _)| short);
        match *self {
            Self::Weekday(day) => f.write_str(at(&days, day)),
            Self::Nth(nth, day) => write!(f, "{} {}", at(&ORDINALS, nth), at(&days, day)),
            Self::Last(day) => write!(f, "last {}", at(&days, day)),
            Self::OfMonth(day) => day.fmt(f),
            Self::LastOfMonth => f.write_str("last day"),
        }
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_told_from_dates() {
        let month: Vec<Date> = (1..=28)
            .map(|day| jiff::civil::date(2026, 2, day))
            .collect();
        for (text, days) in [
            ("mon", vec![2, 9, 16, 23]),
            ("2nd sat", vec![14]),
            ("5th sun", vec![]),
            ("last Friday", vec![27]),
            ("last sat", vec![28]),
            ("15", vec![15]),
            ("31", vec![]),
            ("last day", vec![28]),
            ("1st sun", vec![1]),
        ] {
            let day: Day = text.parse().unwrap();
            let found: Vec<i8> = month
                .iter()
                .filter(|date| day.is(**date))
                .map(|date| date.day())
                .collect();
            assert_eq!(found, days, "{text}");
            assert_eq!(day.to_string().parse::<Day>().unwrap(), day);
        }
        for text in [
            "",
            "0",
            "32",
            "6th mon",
            "mon tue",
            "last",
            "+1",
            "2nd day",
            "first mon",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }
}
