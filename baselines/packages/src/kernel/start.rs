//! When the kernel in a machine's memory was started.
//!
//! As it starts, a kernel sets its clock by the machine's (`rtc_hctosys`) and says so in its log: `rtc_cmos 00:04: setting
//! system clock to 2026-11-20T12:40:07 UTC (1795178407)`. The same line stands in files of logs, of earlier boots and of other
//! machines, which the page cache holds. So the text decides nothing by itself:
//!
//! 1. It counts where it is a record of a kernel's log in RAM. Since 5.10 that is a block of `printk`'s ring of texts: the record's
//!    number, the text without its time, and the next record's number behind it. Before, it was a `printk_log`, which says how long
//!    text and record are. Lines in files, journals and buffers of programs have neither.
//! 2. The kernel's `timekeeper` is the second witness: its seconds now, its seconds since the start, and the difference, three
//!    times over. The kernel that runs always has it in memory. It does not decide alone, since it is moved when somebody sets the
//!    clock, as happens to machines that slept.
//! 3. One instant must be left: all records say the same, or the `timekeeper` agrees with one of them, whereupon the others
//!    are of boots before a restart. Whatever does not come out so is a gap that lists the candidates.
//!
//! Only kernels of 64 bits with the low byte first are known so.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use dormouse_block::{le_u16, le_u64, slice_at};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use memchr::memmem::Finder;

use super::batch::Places;
use super::memory::counted;
use super::offset;
use super::texts::beginnings;

/// What every such text has, behind the names of driver and device.
static NEEDLE: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(b"setting system clock to "));
/// Longest names of driver and device.
const MAX_NAMES: usize = 72;
/// Different instants that are remembered, of each kind.
const MAX_INSTANTS: usize = 64;
/// Texts that are looked at: a memory full of nothing else is nobody's.
const MAX_TEXTS: u64 = 1 << 20;
/// Seconds since 1970 that a clock may show: from 2000 to 2100.
const CLOCK: std::ops::Range<i64> = 946_684_800..4_102_444_800;
/// How much later than the start the clock may have been set, in seconds: emulated machines are slow.
const LATER: i64 = 600;
/// How much the clock may have been moved since, in seconds.
const MOVED: i64 = 60;

/// When a machine's system was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemStart {
    /// When its kernel set its clock by the machine's, seconds after it began.
    pub at: Timestamp,
    /// What says so.
    pub why: Vec<String>,
}

/// How often each instant was found; no more than [`MAX_INSTANTS`] of them.
#[derive(Default)]
struct Instants {
    places: BTreeMap<i64, u64>,
    overflowed: bool,
}

impl Instants {
    fn note(&mut self, instant: i64) {
        if let Some(places) = self.places.get_mut(&instant) {
            *places = places.saturating_add(1);
        } else if self.places.len() < MAX_INSTANTS {
            self.places.insert(instant, 1);
        } else {
            self.overflowed = true;
        }
    }

    fn at(&self, instant: i64) -> u64 {
        self.places.get(&instant).copied().unwrap_or_default()
    }

    fn last(&self) -> Option<i64> {
        self.places.keys().next_back().copied()
    }
}

/// What a batch of memory says of when its kernel was started.
#[derive(Default)]
pub(super) struct StartTexts {
    /// Texts that were looked at.
    looked_at: u64,
    /// Instants by records of a kernel's log, and by other texts.
    records: Vec<i64>,
    quoted: Vec<i64>,
    /// What each `timekeeper` shows: its seconds now, and when it was started.
    clocks: Vec<(i64, i64)>,
}

impl StartTexts {
    /// Looks at these places.
    pub(super) fn look(&mut self, places: &Places<'_>) {
        for needle in beginnings(places, &NEEDLE) {
            self.looked_at = self.looked_at.saturating_add(1);
            self.text(places, needle);
        }
        self.timekeepers(places);
    }

    /// The text whose needle stands there.
    fn text(&mut self, places: &Places<'_>, needle: usize) {
        let (bytes, start) = (places.bytes, places.at);
        let date = needle.saturating_add(NEEDLE.needle().len());
        let Some((instant, len)) = instant(places.from(date)) else {
            return;
        };
        let end = date.saturating_add(len);
        let begins = |begin: &usize| {
            let names = bytes.get(*begin..needle).unwrap_or_default();
            is_names(names)
                && (is_block(bytes, start, *begin, end) || is_printk_log(bytes, *begin, end))
        };
        let mut begin = needle.saturating_sub(MAX_NAMES)..needle;
        if begin.any(|begin| begins(&begin)) {
            self.records.push(instant);
        } else {
            self.quoted.push(instant);
        }
    }

    /// Every `timekeeper` (`include/linux/timekeeper_internal.h`), by `xtime_sec` and the five fields behind it.
    fn timekeepers(&mut self, places: &Places<'_>) {
        /// Bytes that are looked at together, since next to none holds such a number.
        const GROUP: usize = 512;
        let aligned = |place: usize| places.aligned(place, 8);
        let (first, last) = (aligned(places.range.start), aligned(places.range.end));
        let words = places.bytes.get(first..last.min(places.bytes.len()));
        for (nth, group) in words.unwrap_or_default().chunks(GROUP).enumerate() {
            if !may_hold_clock(group) {
                continue;
            }
            for (word, _) in (0..GROUP).step_by(8).zip(group.chunks_exact(8)) {
                let at = nth.saturating_mul(GROUP).saturating_add(word);
                self.clocks
                    .extend(timekeeper(places.from(first.saturating_add(at))));
            }
        }
    }
}

/// Whether a word of these may be a number of seconds that a clock shows: whether it is less than 2^32 above the least. Only
/// then does one more subtraction turn the highest bit of the difference from 0 to 1. Said without comparing, it is four
/// instructions for two words on every x86-64, whose oldest compare no words of 64 bits.
fn may_hold_clock(words: &[u8]) -> bool {
    let bits = words.chunks_exact(8).fold(0, |bits, word| {
        let word = <[u8; 8]>::try_from(word).map_or(0, i64::from_le_bytes);
        let above = word.wrapping_sub(CLOCK.start);
        bits | (above.wrapping_sub(1 << 32) & !above)
    });
    bits < 0
}

/// What all batches say of when the kernel was started.
#[derive(Default)]
pub(super) struct StartSearch {
    records: Instants,
    quoted: Instants,
    /// Starts by a `timekeeper`, in whole seconds.
    clocks: Instants,
    /// The latest that a `timekeeper` shows.
    now: i64,
    looked_at: u64,
}

impl StartSearch {
    /// Adds what was found in a batch.
    pub(super) fn note(&mut self, batch: StartTexts) {
        self.looked_at = self.looked_at.saturating_add(batch.looked_at);
        for instant in batch.records {
            self.records.note(instant);
        }
        for instant in batch.quoted {
            self.quoted.note(instant);
        }
        for (now, started) in batch.clocks {
            self.clocks.note(started);
            self.now = self.now.max(now);
        }
    }

    /// What all of it says.
    pub(super) fn finish(self) -> Result<SystemStart, String> {
        if self.looked_at > MAX_TEXTS || self.records.overflowed || self.clocks.overflowed {
            return Err(format!(
                "its memory holds more than {MAX_INSTANTS} different instants at which kernels started, or {MAX_TEXTS} texts about them"
            ));
        }
        let instant = self.decide()?;
        let at = Timestamp::from_second(instant).map_err(|error| error.to_string())?;
        let mut why = vec![format!(
            "the record of its log, in {}",
            counted(self.records.at(instant))
        )];
        let clocks = self.clocks.places.values();
        let clocks = clocks.fold(0, |sum: u64, places| sum.saturating_add(*places));
        if clocks > 0 {
            why.push(format!("its kernel's clock, in {}", counted(clocks)));
        }
        let quoted = self.quoted.at(instant);
        if quoted > 0 {
            why.push(format!("the same text elsewhere, in {}", counted(quoted)));
        }
        let others = self.records.places.len().saturating_sub(1);
        if others > 0 {
            why.push(format!(
                "records of {others} other boots, which its kernel's clock rules out"
            ));
        }
        Ok(SystemStart { at, why })
    }

    /// The one instant that is left.
    fn decide(&self) -> Result<i64, String> {
        let clocks: Vec<i64> = self.clocks.places.keys().copied().collect();
        let records: Vec<i64> = self.records.places.keys().copied().collect();
        let clock = match (clocks.first(), clocks.last()) {
            // Two copies are kept, one of which may round otherwise.
            (Some(first), Some(last)) if last.saturating_sub(*first) <= 1 => Some(*first),
            (Some(_), _) => {
                return Err(format!(
                    "its memory holds the clocks of several boots: of {}",
                    listed(&clocks)
                ));
            }
            _ => None,
        };
        let agree = |record: &&i64| {
            clock.is_none_or(|clock| {
                let after = record.saturating_sub(clock);
                (-MOVED..=LATER).contains(&after) && **record <= self.now.saturating_add(MOVED)
            })
        };
        let left: Vec<i64> = records.iter().filter(agree).copied().collect();
        match (left.as_slice(), records.as_slice(), clock) {
            ([one], ..) => match self.quoted.last() {
                Some(later) if clock.is_none() && later > *one => Err(format!(
                    "a record of a kernel's log says that it was started on {}, and other texts in its memory speak of {}",
                    listed(&[*one]),
                    listed(&[later])
                )),
                _ => Ok(*one),
            },
            ([], [], Some(clock)) => Err(format!(
                "no record of its kernel's log says when it was started; by its clock that was {}, unless it was set since",
                listed(&[clock])
            )),
            ([], [], None) if self.quoted.places.is_empty() => {
                Err("nothing in its memory says when its system was started".to_owned())
            }
            ([], [], None) => {
                let quoted: Vec<i64> = self.quoted.places.keys().copied().collect();
                Err(format!(
                    "no record of its kernel's log says when it was started; texts that may be of any boot or machine speak of {}",
                    listed(&quoted)
                ))
            }
            ([], _, Some(clock)) => Err(format!(
                "records of a kernel's log say that it was started on {}, and by its clock that was {}: it was set since, or they are of other boots",
                listed(&records),
                listed(&[clock])
            )),
            (several, ..) => Err(format!(
                "records of kernels' logs in its memory speak of several boots: of {}",
                listed(several)
            )),
        }
    }
}

/// Instants in a clause, the latest first.
fn listed(instants: &[i64]) -> String {
    /// More would not help anybody to choose.
    const LISTED: usize = 8;
    let mut names: Vec<String> = instants
        .iter()
        .rev()
        .take(LISTED)
        .filter_map(|instant| Timestamp::from_second(*instant).ok())
        .map(|instant| instant.to_string())
        .collect();
    if instants.len() > LISTED {
        names.push("...".to_owned());
    }
    names.join(", ")
}

/// `2026-11-20T12:40:07 UTC (1795178407)`, or with a space as before Linux 5.7: the instant, where both halves say the same,
/// and how long the text is.
fn instant(text: &[u8]) -> Option<(i64, usize)> {
    let (date, rest) = text.split_at_checked(19)?;
    let rest = rest.strip_prefix(b" UTC (")?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let (number, rest) = rest.split_at_checked(digits)?;
    rest.strip_prefix(b")")?;
    if digits > 10 || !matches!(date.get(10), Some(b'T' | b' ')) {
        return None;
    }
    let number: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let written = std::str::from_utf8(date).ok()?.replace(' ', "T");
    let civil: DateTime = written.parse().ok()?;
    let instant = TimeZone::UTC.to_timestamp(civil).ok()?;
    let sound = CLOCK.contains(&number) && instant.as_second() == number;
    sound.then(|| (number, 19 + 6 + 1_usize.saturating_add(digits)))
}

/// `rtc_cmos 00:04: `: driver and device, as `dev_info` has them.
fn is_names(text: &[u8]) -> bool {
    let Some(text) = text.strip_suffix(b": ") else {
        return false;
    };
    let mut names = text.split(|byte| *byte == b' ');
    let name = |name: Option<&[u8]>| {
        name.is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
    };
    name(names.next()) && name(names.next()) && names.next().is_none()
}

/// Whether a text is a block of the ring (`prb_data_block` in `kernel/printk/printk_ringbuffer.h`): a number before it, and the
/// next one where the following block begins. Numbers begin below 2^32, by as much as the ring has records. From 5.12 on the
/// newline and a NUL keep their place behind the text.
fn is_block(bytes: &[u8], start: u64, begin: usize, end: usize) -> bool {
    /// First numbers of the largest ring, and as many records as no kernel writes before its clock is set.
    const NUMBERS: std::ops::Range<u64> = 0xff00_0000..0x1_0100_0000;
    /// Records that other processors may have begun in between.
    const BETWEEN: u64 = 8;
    let place = start.saturating_add(offset(begin));
    let number = |at: usize| {
        let number = le_u64(bytes, at).ok()?;
        NUMBERS.contains(&number).then_some(number)
    };
    let Some(own) = begin.checked_sub(8).and_then(number) else {
        return false;
    };
    if !place.is_multiple_of(8) {
        return false;
    }
    [0, 2].iter().any(|more: &usize| {
        let len = end.saturating_sub(begin).saturating_add(*more);
        let next = len
            .checked_next_multiple_of(8)
            .and_then(|len| begin.checked_add(len))
            .and_then(number);
        next.is_some_and(|next| next > own && next.saturating_sub(own) <= BETWEEN)
    })
}

/// Whether a text is a record as before 5.10 (`printk_log` in `kernel/printk/printk.c`): 16 bytes, or 20 with the caller, that say
/// how long text, device's names and record are, and that the kernel wrote it.
fn is_printk_log(bytes: &[u8], begin: usize, end: usize) -> bool {
    /// Nanoseconds after its start at which a kernel has set its clock long ago.
    const LATEST: u64 = 600_000_000_000;
    [16, 20].iter().any(|head: &usize| {
        let sound = || {
            let at = begin.checked_sub(*head)?;
            let header = slice_at(bytes, at, 16).ok()?;
            let len = usize::from(le_u16(header, 8).ok()?);
            let text = usize::from(le_u16(header, 10).ok()?);
            let names = usize::from(le_u16(header, 12).ok()?);
            let used = head.checked_add(text)?.checked_add(names)?;
            let fits = [4, 8]
                .iter()
                .any(|align| Some(len) == used.checked_next_multiple_of(*align));
            Some(
                le_u64(header, 0).ok()? < LATEST
                    && text == end.checked_sub(begin)?
                    && fits
                    && header.get(14) == Some(&0),
            )
        };
        sound().unwrap_or(false)
    })
}

/// The clock's seconds and when it was started by them: `xtime_sec`, `ktime_sec`, `wall_to_monotonic` (seconds and nanoseconds),
/// `offs_real` and `offs_boot` (nanoseconds), each of 64 bits.
fn timekeeper(bytes: &[u8]) -> Option<(i64, i64)> {
    const SECOND: i64 = 1_000_000_000;
    let field = |nth: usize| {
        let word = bytes.get(nth.checked_mul(8)?..)?.get(..8)?;
        Some(i64::from_le_bytes(word.try_into().ok()?))
    };
    let (now, running) = (field(0)?, field(1)?);
    let (to_start, nanoseconds) = (field(2)?, field(3)?);
    let (real, asleep) = (field(4)?, field(5)?);
    let whole = to_start.checked_mul(SECOND)?.checked_add(nanoseconds)?;
    let since = running.checked_sub(now.checked_add(to_start)?)?;
    let sound = CLOCK.contains(&now)
        && to_start < 0
        && (0..SECOND).contains(&nanoseconds)
        && running >= 0
        && (0..=1).contains(&since)
        && whole.checked_neg()? == real
        && asleep >= 0;
    let started = real.checked_sub(asleep)?.div_euclid(SECOND);
    (sound && CLOCK.contains(&started)).then_some((now, started))
}
