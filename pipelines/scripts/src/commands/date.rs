//! `date`: the time of the call, for guests that keep UTC.

use super::arguments::{self, Spec};
use crate::shell::Shell;
use crate::stop::Run;

const DATE: Spec = Spec {
    short: "ud:R",
    long: &[("utc", 'u'), ("universal", 'u'), ("date=", 'd')],
    permute: true,
};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A moment in UTC, broken down.
pub(super) struct Moment {
    seconds: i64,
    pub(super) year: i64,
    /// From 1.
    month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    second: i64,
    /// From Sunday.
    weekday: i64,
}

impl Moment {
    /// Breaks down seconds since 1970 by the proleptic Gregorian calendar, whose years begin in March here.
    pub(super) fn new(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        let rest = seconds.rem_euclid(86_400);
        let shifted = days.saturating_add(719_468);
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era
            .saturating_add(era.saturating_mul(400))
            .saturating_add(i64::from(month <= 2));
        Self {
            seconds,
            year,
            month,
            day: of_year - (153 * shifted_month + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: days.saturating_add(4).rem_euclid(7),
        }
    }

    pub(super) fn month_name(&self) -> &'static str {
        let index = usize::try_from(self.month.saturating_sub(1)).unwrap_or(0);
        MONTHS.get(index).copied().unwrap_or_default()
    }

    fn usual(&self) -> String {
        let index = usize::try_from(self.weekday).unwrap_or(0);
        format!(
            "{} {} {:2} {:02}:{:02}:{:02} UTC {}",
            DAYS.get(index).copied().unwrap_or_default(),
            self.month_name(),
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.year
        )
    }

    fn formatted(&self, format: &str) -> Option<String> {
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                out.push(letter);
                continue;
            }
            match letters.next()? {
                'Y' => out.push_str(&self.year.to_string()),
                'm' => out.push_str(&format!("{:02}", self.month)),
                'd' => out.push_str(&format!("{:02}", self.day)),
                'H' => out.push_str(&format!("{:02}", self.hour)),
                'M' => out.push_str(&format!("{:02}", self.minute)),
                'S' => out.push_str(&format!("{:02}", self.second)),
                's' => out.push_str(&self.seconds.to_string()),
                'F' => out.push_str(&format!("{}-{:02}-{:02}", self.year, self.month, self.day)),
                'T' => out.push_str(&format!(
                    "{:02}:{:02}:{:02}",
                    self.hour, self.minute, self.second
                )),
                '%' => out.push('%'),
                _ => return None,
            }
        }
        Some(out)
    }
}

pub(crate) fn date(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &DATE)?;
    let zone = shell
        .environment
        .variables
        .variable(b"TZ")
        .filter(|variable| variable.exported)
        .and_then(|variable| variable.value.clone());
    let in_utc = match zone.as_deref() {
        Some(b"UTC" | b"UTC0" | b"") => true,
        Some(_) => false,
        None => {
            let local = super::name::canonical(shell, b"/etc/localtime", 'f')?.unwrap_or_default();
            let name = local
                .rsplit(|&byte| byte == b'/')
                .next()
                .unwrap_or_default();
            matches!(name, b"UTC" | b"UCT" | b"Zulu" | b"Universal")
                || !shell
                    .files
                    .exists(b"/etc/localtime", dormouse_filesystem::Follow::Links)?
        }
    };
    if !in_utc && !arguments.has('u') {
        return shell.usage(b"date", "the guest's time zone is not UTC");
    }
    let moment = Moment::new(shell.files.now.seconds);
    if arguments.has('R')
        || arguments
            .value('d')
            .is_some_and(|text| text != moment.usual().as_bytes())
    {
        return shell.usage(b"date", "only the present is interpreted");
    }
    let text = match arguments.operands.as_slice() {
        [] => Some(moment.usual()),
        [format] => std::str::from_utf8(format)
            .ok()
            .and_then(|format| format.strip_prefix('+'))
            .and_then(|format| moment.formatted(format)),
        _ => None,
    };
    let Some(text) = text else {
        return shell.usage(b"date", "the format is not interpreted");
    };
    shell.out(format!("{text}\n").as_bytes())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for (seconds, text) in [
            (0, "Thu Jan  1 00:00:00 UTC 1970"),
            (951_782_400, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_700_000_000, "Tue Nov 14 22:13:20 UTC 2023"),
            (4_107_542_399, "Sun Feb 28 23:59:59 UTC 2100"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
        ] {
            assert_eq!(Moment::new(seconds).usual(), text);
        }
    }
}
