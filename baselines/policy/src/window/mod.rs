//! Change windows: when machines may be changed, in their own time or at one instant for all.

mod day;
mod zone;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::Glob;
use crate::estate::{CATEGORY, TENANT};
pub use day::Day;
pub(crate) use zone::named;
pub use zone::{MachineZone, Zone, ZoneSource};

/// Days looked at for the next slots: four years and a bit, so that a 29 February is met.
const HORIZON_DAYS: usize = 4 * 366 + 1;
/// The longest window, in minutes: a week.
const MAX_MINUTES: u32 = 7 * 24 * 60;

/// Whether a machine is among those that match every list given, each by any of its patterns.
fn is_for(
    [categories, tenants, machines]: [&[Glob]; 3],
    machine: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    let fits = |globs: &[Glob], value: Option<&str>| {
        globs.is_empty() || value.is_some_and(|value| globs.iter().any(|glob| glob.matches(value)))
    };
    fits(categories, labels.get(CATEGORY).map(String::as_str))
        && fits(tenants, labels.get(TENANT).map(String::as_str))
        && fits(machines, Some(machine))
}

/// A window that comes again and again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Window {
    /// By what it is named; each once.
    pub id: String,
    /// Patterns over the categories of the machines it is for.
    #[serde(default)]
    pub categories: Vec<Glob>,
    /// Patterns over their tenants.
    #[serde(default)]
    pub tenants: Vec<Glob>,
    /// Patterns over their names.
    #[serde(default)]
    pub machines: Vec<Glob>,
    /// The days on which it opens; every day where empty.
    #[serde(default)]
    pub days: BTreeSet<Day>,
    /// The months in which it opens, 1 to 12; every month where empty.
    #[serde(default, deserialize_with = "months")]
    pub months: BTreeSet<i8>,
    /// The local time at which it opens. One that a day has not, for the clock is put forward over it, is taken as that
    /// much later; of one that a day has twice the first counts.
    #[serde(deserialize_with = "time")]
    pub start: Time,
    /// How long it stays open, by a clock that is never put forward or back.
    pub lasts: Lasts,
    /// Whose local time that is.
    #[serde(default)]
    pub time_zone: Zone,
}

/// Days on which no window is open.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Blackout {
    /// By what it is named; each once.
    pub id: String,
    /// Patterns over the categories of the machines it is for.
    #[serde(default)]
    pub categories: Vec<Glob>,
    /// Patterns over their tenants.
    #[serde(default)]
    pub tenants: Vec<Glob>,
    /// Patterns over their names.
    #[serde(default)]
    pub machines: Vec<Glob>,
    /// The first day.
    #[serde(deserialize_with = "date")]
    pub from: Date,
    /// The last day.
    #[serde(deserialize_with = "date")]
    pub to: Date,
    /// Whose days these are.
    #[serde(default)]
    pub time_zone: Zone,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// How long a window stays open, in whole minutes. Written `90 minutes` or `4 hours`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lasts(u32);

impl<'de> Deserialize<'de> for Lasts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.split_once(' ').and_then(|(count, unit)| {
            let digits = count.bytes().all(|byte| byte.is_ascii_digit());
            let count: u32 = digits.then(|| count.parse().ok())??;
            match unit {
                "minute" | "minutes" => Some(count),
                "hour" | "hours" => count.checked_mul(60),
                _ => None,
            }
        });
        parsed
            .filter(|minutes| (1..=MAX_MINUTES).contains(minutes))
            .map(Self)
            .ok_or_else(|| {
                D::Error::custom(format!(
                    "{text:?} is no time such as \"90 minutes\" or \"4 hours\", of a week at most"
                ))
            })
    }
}

fn months<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<i8>, D::Error> {
    let months = BTreeSet::<i8>::deserialize(deserializer)?;
    match months.iter().find(|month| !(1..=12).contains(*month)) {
        Some(month) => Err(D::Error::custom(format!("{month} is no month of 1 to 12"))),
        None => Ok(months),
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bad = || D::Error::custom(format!("{text:?} is no time of day such as \"22:00\""));
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    let two = |part: &str| {
        (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse::<i8>().ok())
            .flatten()
    };
    let (Some(hour), Some(minute)) = (two(hour), two(minute)) else {
        return Err(bad());
    };
    Time::new(hour, minute, 0, 0).map_err(|_| bad())
}

/// A day, as TOML's own kind or as text.
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Toml(toml::value::Datetime),
        Text(String),
    }
    let text = match Written::deserialize(deserializer) {
        Ok(Written::Toml(date)) => date.to_string(),
        Ok(Written::Text(text)) => text,
        Err(_) => String::new(),
    };
    let plain = text.len() == "2026-12-31".len();
    plain
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no day such as 2026-12-31")))
}

/// A time in which a machine may be changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// When it opens.
    pub from: Timestamp,
    /// When it closes.
    pub until: Timestamp,
    /// By which window.
    pub window: String,
}

/// A slot as a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SlotFact {
    /// When it opens.
    pub from: Timestamp,
    /// When it closes.
    pub until: Timestamp,
    /// By which window.
    pub window: String,
    /// When it opens by the clock of the machine, with its offset and zone.
    pub local: String,
}

/// When one machine may be changed.
#[derive(Debug, Clone)]
pub struct Calendar<'a> {
    windows: Vec<&'a Window>,
    blackouts: Vec<&'a Blackout>,
    zone: TimeZone,
}

impl<'a> Calendar<'a> {
    /// The windows and blackouts that are for a machine whose own zone this is.
    #[must_use]
    pub fn of(
        windows: &'a [Window],
        blackouts: &'a [Blackout],
        machine: &str,
        labels: &BTreeMap<String, String>,
        zone: TimeZone,
    ) -> Self {
        Self {
            windows: windows
                .iter()
                .filter(|one| {
                    let lists = [&*one.categories, &*one.tenants, &*one.machines];
                    is_for(lists, machine, labels)
                })
                .collect(),
            blackouts: blackouts
                .iter()
                .filter(|one| {
                    let lists = [&*one.categories, &*one.tenants, &*one.machines];
                    is_for(lists, machine, labels)
                })
                .collect(),
            zone,
        }
    }

    /// Whether no window is for the machine: it may be changed at any time that no blackout forbids.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.windows.is_empty()
    }

    /// The window that is open at an instant, or why none is.
    ///
    /// # Errors
    /// A clause that says so.
    pub fn open_at(&self, instant: Timestamp) -> Result<Option<Slot>, String> {
        if let Some(blackout) = self.blackout_at(instant) {
            let because = if blackout.reason.is_empty() {
                String::new()
            } else {
                format!(": {}", blackout.reason)
            };
            return Err(format!(
                "the blackout {} lasts until {}{because}",
                blackout.id, blackout.to
            ));
        }
        if self.is_free() {
            return Ok(None);
        }
        let slots = self.next(instant, 1);
        match slots.into_iter().next() {
            Some(slot) if slot.from <= instant => Ok(Some(slot)),
            Some(slot) => Err(format!(
                "no change window is open; the next, {}, opens at {}",
                slot.window, slot.from
            )),
            None => Err("no change window opens within four years".to_owned()),
        }
    }

    fn blackout_at(&self, instant: Timestamp) -> Option<&'a Blackout> {
        self.blackouts.iter().copied().find(|blackout| {
            let day = instant.to_zoned(blackout.time_zone.of(&self.zone)).date();
            (blackout.from..=blackout.to).contains(&day)
        })
    }

    /// The next slots from an instant on, the one that is open first: at most `count` of them, cut by blackouts.
    #[must_use]
    pub fn next(&self, from: Timestamp, count: usize) -> Vec<Slot> {
        let mut all: BTreeSet<Slot> = BTreeSet::new();
        for window in &self.windows {
            let zone = window.time_zone.of(&self.zone);
            let here = from.to_zoned(zone.clone()).date();
            // One that opened days ago may still be open.
            let back =
                jiff::Span::new().days(i64::from(window.lasts.0 / (24 * 60)).saturating_add(2));
            let mut day = here.checked_sub(back).unwrap_or(Date::MIN);
            let mut found = 0_usize;
            for _ in 0..HORIZON_DAYS {
                if window.opens_on(day) {
                    for slot in self.cut(window.slot(day, &zone)) {
                        if slot.until > from {
                            all.insert(slot);
                            found = found.saturating_add(1);
                        }
                    }
                }
                let Ok(next) = day.tomorrow() else { break };
                day = next;
                if found > count {
                    break;
                }
            }
        }
        all.into_iter().take(count).collect()
    }

    /// A slot without what blackouts take of it.
    fn cut(&self, slot: Option<Slot>) -> Vec<Slot> {
        let mut left: Vec<Slot> = slot.into_iter().collect();
        for blackout in &self.blackouts {
            let Some((from, until)) = blackout.instants(&self.zone) else {
                continue;
            };
            left = left
                .into_iter()
                .flat_map(|slot| {
                    let before = Slot {
                        until: slot.until.min(from),
                        ..slot.clone()
                    };
                    let after = Slot {
                        from: slot.from.max(until),
                        ..slot
                    };
                    [before, after]
                })
                .filter(|slot| slot.from < slot.until)
                .collect();
            left.dedup();
        }
        left
    }

    /// Slots as facts, with the machine's own time.
    #[must_use]
    pub fn facts(&self, slots: &[Slot]) -> Vec<SlotFact> {
        let fact = |slot: &Slot| SlotFact {
            from: slot.from,
            until: slot.until,
            window: slot.window.clone(),
            local: slot.from.to_zoned(self.zone.clone()).to_string(),
        };
        slots.iter().map(fact).collect()
    }

    /// What a deadline has to do with the windows from an instant on: the last slot that opens before it, or that there is
    /// none.
    #[must_use]
    pub fn against(&self, from: Timestamp, deadline: Timestamp) -> Against {
        if deadline <= from {
            return Against::Over;
        }
        if self.is_free() {
            return Against::InTime(None);
        }
        match self.next(from, 1).into_iter().next() {
            Some(slot) if slot.from.max(from) < deadline => Against::InTime(Some(slot)),
            other => Against::BeforeNext(other),
        }
    }
}

/// How a deadline stands to the next window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// The deadline is over.
    Over,
    /// This slot opens before it; none where the machine may be changed at any time.
    InTime(Option<Slot>),
    /// It is over before the next window opens: this one, if any ever does.
    BeforeNext(Option<Slot>),
}

impl Window {
    /// Whether it opens on a day.
    #[must_use]
    pub fn opens_on(&self, day: Date) -> bool {
        (self.months.is_empty() || self.months.contains(&day.month()))
            && (self.days.is_empty() || self.days.iter().any(|one| one.is(day)))
    }

    /// The slot that opens on a day in this zone; `None` past the end of the calendar.
    #[must_use]
    pub fn slot(&self, day: Date, zone: &TimeZone) -> Option<Slot> {
        // Compatible: a time in a gap is taken by the offset before it, of a doubled one the first.
        let opens = zone
            .to_ambiguous_zoned(day.to_datetime(self.start))
            .compatible()
            .ok()?
            .timestamp();
        let minutes = SignedDuration::from_mins(i64::from(self.lasts.0));
        Some(Slot {
            from: opens,
            until: opens.checked_add(minutes).ok()?,
            window: self.id.clone(),
        })
    }
}

impl Blackout {
    /// From its first day's beginning to its last day's end, in the zone of a machine.
    fn instants(&self, machine: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        let zone = self.time_zone.of(machine);
        let begin = |day: Date| Some(day.to_zoned(zone.clone()).ok()?.timestamp());
        Some((begin(self.from)?, begin(self.to.tomorrow().ok()?)?))
    }
}
