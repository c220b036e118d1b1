//! When the kernel in a machine's memory was started.

use dormouse_packages::SystemStart;

use crate::{Search, in_pieces};

const BANNER: &str = "Linux version 6.1.0-9-amd64 (debian-kernel@lists.debian.org) (gcc-12 12.2.0) #1 SMP Debian 6.1.27-1 (2023-05-08)";
/// 2026-11-20T12:40:07Z.
pub(crate) const START: i64 = 1_795_178_407;
const DAY: i64 = 86_400;

fn line(instant: i64) -> String {
    let at = jiff::Timestamp::from_second(instant).unwrap();
    let date = at.strftime("%Y-%m-%dT%H:%M:%S");
    format!("rtc_cmos 00:04: setting system clock to {date} UTC ({instant})")
}

/// A block of printk's ring, with `more` bytes behind the text, and the head of the next one.
fn block(number: u64, text: &str, more: &[u8], next: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.extend(more);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(next.to_le_bytes());
    bytes.extend(b"rtc_cmos 00:04: alarms up to one day");
    bytes
}

pub(crate) fn ring(instant: i64) -> Vec<u8> {
    block(0xffff_f12e, &line(instant), b"\n\0", 0xffff_f12f)
}

/// A record of a log before Linux 5.10, with `head` bytes before the text.
fn printk_log(head: usize, text: &str) -> Vec<u8> {
    let names = b"SUBSYSTEM=platform\0DEVICE=+platform:rtc_cmos";
    let used = head + text.len() + names.len();
    let mut bytes = 1_234_567_890_u64.to_le_bytes().to_vec();
    for len in [used.next_multiple_of(4), text.len(), names.len()] {
        bytes.extend(u16::try_from(len).unwrap().to_le_bytes());
    }
    bytes.extend([0, 0xc6]);
    bytes.resize(head, 1);
    bytes.extend(text.as_bytes());
    bytes.extend(names);
    bytes
}

/// A `timekeeper` by whose clock the system was started half a second before `started` and ran for `seconds`, and slept for
/// `asleep` more.
pub(crate) fn clock(started: i64, seconds: i64, asleep: i64) -> Vec<u8> {
    let whole = (started + asleep) * 1_000_000_000 - 500_000_000;
    let fields = [
        started + asleep + seconds,
        seconds,
        -(started + asleep),
        500_000_000,
        whole,
        asleep * 1_000_000_000,
    ];
    fields
        .iter()
        .flat_map(|field: &i64| field.to_le_bytes())
        .collect()
}

/// Memory with a kernel's banner, twice, and these bytes.
fn memory(things: &[(usize, &[u8])]) -> Vec<u8> {
    let mut memory = vec![0; 64 << 10];
    let banner = format!("{BANNER}\n");
    let banners = [(60_000, banner.as_bytes()), (62_000, banner.as_bytes())];
    for (at, bytes) in things.iter().chain(&banners) {
        memory[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    memory
}

/// In one piece, and in pieces of a size that puts borders everywhere.
fn start(things: &[(usize, &[u8])]) -> Result<SystemStart, String> {
    let memory = memory(things);
    let whole = in_pieces(&memory, memory.len()).started;
    for size in [37, 97, 1000, 4096, 20_011] {
        assert_eq!(in_pieces(&memory, size).started, whole, "pieces of {size}");
    }
    whole
}

fn is_start(found: Result<SystemStart, String>, instant: i64, witnesses: usize) {
    let found = found.unwrap();
    assert_eq!(found.at.as_second(), instant);
    assert_eq!(found.why.len(), witnesses, "{:?}", found.why);
}

#[test]
fn records_of_a_log_say_when_their_kernel_was_started() {
    let five_ten = block(0xffff_ffff, &line(START), b"", 0x1_0000_0001);
    let old_date = line(START).replace("20T12", "20 12");
    let before = printk_log(16, &old_date);
    let with_caller = printk_log(20, &line(START));
    for record in [ring(START), five_ten, before, with_caller] {
        is_start(start(&[(8000, &record)]), START, 1);
        // Several places that say the same.
        is_start(start(&[(8000, &record), (9000, &record)]), START, 1);
    }
    let of_arm = line(START).replace("rtc_cmos 00:04", "rtc-pl031 9010000.pl031");
    let record = block(0xffff_f12e, &of_arm, b"\n\0", 0xffff_f130);
    is_start(start(&[(8000, &record)]), START, 1);
}

#[test]
fn texts_that_are_no_records_decide_nothing() {
    let text = line(START);
    let syslog = format!("Nov 20 12:40:09 web kernel: [    1.5] {text}\nNov 20 12:40:09 web");
    let journal = format!("\u{1}MESSAGE={text}");
    // As a program's memory has a text, behind the size of the piece that was allotted.
    let heap = block(0x61, &text, b"\0\0", 0x62);
    // No number follows, or one that has nothing to do with it; and a place where no block begins.
    let alone = block(0xffff_f12e, &text, b"\n\0", 0);
    let other = block(0xffff_f12e, &text, b"\n\0", 0xffff_f92f);
    let record = ring(START);
    let shifted = (8004, record.as_slice());
    let mut wrong_len = printk_log(16, &text);
    wrong_len[10] ^= 1;
    for thing in [
        (8000, syslog.as_bytes()),
        (8000, journal.as_bytes()),
        (8000, text.as_bytes()),
        (8000, &heap),
        (8000, &alone),
        (8000, &other),
        (8000, &wrong_len),
        shifted,
    ] {
        let why = start(&[thing]).unwrap_err();
        assert!(
            why.contains("of any boot or machine") && why.contains("2026-11-20T12:40:07Z"),
            "{why}"
        );
    }
    let why = start(&[]).unwrap_err();
    assert!(why.contains("nothing in its memory"), "{why}");
    // Beside a record of the same boot and of an earlier one they are no harm; of a later one they are.
    let earlier = line(START - DAY);
    let things = [
        (8000, record.as_slice()),
        (12_000, text.as_bytes()),
        (16_001, earlier.as_bytes()),
    ];
    is_start(start(&things), START, 2);
    let later = line(START + DAY);
    let why = start(&[(8000, &record), (12_000, later.as_bytes())]).unwrap_err();
    assert!(why.contains("2026-11-21T12:40:07Z"), "{why}");
}

#[test]
fn dates_that_are_not_their_numbers_are_no_texts() {
    let text = line(START);
    for (from, to) in [
        ("12:40:07", "12:40:08"),
        ("2026-11-20", "2026-13-20"),
        ("(1795178407)", "(1795178407 )"),
        ("(1795178407)", "(17951784070)"),
        ("UTC", "CET"),
        ("T12", "x12"),
    ] {
        let broken = text.replace(from, to);
        assert_ne!(broken, text);
        let record = block(0xffff_f12e, &broken, b"\n\0", 0xffff_f12f);
        let why = start(&[(8000, &record)]).unwrap_err();
        assert!(why.contains("nothing in its memory"), "{broken}: {why}");
    }
    // 1970 is no year in which a machine was started.
    let record = ring(77);
    assert!(start(&[(8000, &record)]).is_err());
}

#[test]
fn the_kernel_s_clock_tells_boots_apart() {
    let (now, then) = (ring(START), ring(START - DAY));
    let both = [(8000, now.as_slice()), (16_000, then.as_slice())];
    let why = start(&both).unwrap_err();
    assert!(why.contains("several boots"), "{why}");
    let clock_now = clock(START, 40, 0);
    let mut things = both.to_vec();
    things.extend([(24_000, clock_now.as_slice()), (24_296, &clock_now)]);
    is_start(start(&things), START, 3);
    // One that slept in between.
    let slept = clock(START, 40, 3 * DAY);
    is_start(start(&[(8000, &now), (24_000, &slept)]), START, 2);
    // Later lines of others are explained.
    let later = line(START + DAY);
    let things = [
        (8000, now.as_slice()),
        (12_000, later.as_bytes()),
        (24_000, &clock_now),
    ];
    is_start(start(&things), START, 2);
    // One that was set since, or a record that is left of another boot.
    let why = start(&[(8000, &then), (24_000, &clock_now)]).unwrap_err();
    assert!(
        why.contains("2026-11-19T12:40:07Z") && why.contains("2026-11-20T12:40:06Z"),
        "{why}"
    );
    // A clock alone may have been set.
    let why = start(&[(24_000, &clock_now)]).unwrap_err();
    assert!(why.contains("unless it was set since"), "{why}");
    let clock_then = clock(START - DAY, 40, 0);
    let things = [
        (8000, now.as_slice()),
        (24_000, &clock_now),
        (30_000, &clock_then),
    ];
    let why = start(&things).unwrap_err();
    assert!(why.contains("clocks of several boots"), "{why}");
    // A record of what the clock has not reached.
    let soon = clock(START, 40, 0);
    let ahead = ring(START + 200);
    assert!(start(&[(8000, &ahead), (24_000, &soon)]).is_err());
    // Numbers that do not agree with each other are no clock.
    for field in 0..5 {
        let mut broken = clock_now.clone();
        broken[field * 8] ^= 4;
        is_start(start(&[(8000, &now), (24_000, &broken)]), START, 1);
    }
}

#[test]
fn records_and_clocks_over_borders_are_found_once() {
    let (record, clock) = (ring(START), clock(START, 40, 0));
    for at in (4096 - 160..4096 + 16).step_by(8) {
        let memory = memory(&[(at, &record), (at + 160, &clock)]);
        let found = in_pieces(&memory, 4096).started.unwrap();
        assert_eq!(
            found.why,
            [
                "the record of its log, in one place",
                "its kernel's clock, in one place"
            ],
            "{at}"
        );
    }
    // Two blocks never go on in each other.
    let bytes = memory(&[(4000, &record)]);
    let mut search = Search::default();
    search.take("a", 0, &bytes[..4050]);
    search.take("b", 4050, &bytes[4050..]);
    assert!(search.finish().started.is_err());
}

#[test]
fn thousands_of_candidates_are_a_gap() {
    let mut search = Search::default();
    for nth in 0..5000 {
        search.take("ram", 0, &memory(&[(8000, &ring(START + nth))])[..16_384]);
    }
    let banners = memory(&[]);
    search.take("ram", 0, &banners);
    let why = search.finish().started.unwrap_err();
    assert!(why.contains("more than 64 different instants"), "{why}");
    // Texts elsewhere are counted as far as they go, and change nothing.
    let mut search = Search::default();
    for nth in 0..5000 {
        let text = line(START - 10_000 + nth);
        search.take("ram", 0, &memory(&[(8001, text.as_bytes())])[..16_384]);
    }
    search.take("ram", 0, &memory(&[(8000, &ring(START))]));
    assert_eq!(search.finish().started.unwrap().at.as_second(), START);
}

#[test]
fn nothing_is_said_where_the_kernel_is_not_known() {
    let mut search = Search::default();
    let mut bytes = vec![0; 16_384];
    let record = ring(START);
    bytes[8000..8000 + record.len()].copy_from_slice(&record);
    search.take("ram", 0, &bytes);
    let why = search.finish().started.unwrap_err();
    assert!(why.contains("its kernel is not known"), "{why}");
}
