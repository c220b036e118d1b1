//! The kernel that runs, told from a machine's memory.
//!
//! A Linux kernel keeps a text about itself, `linux_banner`, which it writes into its log as it starts; and most keep
//! another, `VMCOREINFO`, for whoever dumps their memory. But memory holds more: logs of earlier boots in the page cache,
//! remains of a kernel that ran before a restart, texts that programs print. So one place decides nothing:
//!
//! 1. A banner is a text `Linux version RELEASE (BUILDER) #NUMBER ...` that nothing printable stands before and `\n` and a
//!    NUL end. A build without a number (`# SMP`) is the kernel's own placeholder, and counts for nothing.
//! 2. A banner whose last two characters stand there twice is the record of the log: there the two bytes of its level were
//!    taken away in front, and what stood behind them moved down (`printk_sprint`).
//! 3. All banners that are no such records must be one text; there must be a second witness: the record of the log, another
//!    place with the same text, or the `OSRELEASE=` of a `VMCOREINFO`; and every `VMCOREINFO` must name that release.
//!
//! This is sound since the kernel that runs always has its banner in memory, which is never swapped out: where all banners are
//! one text, it is that kernel's. Whatever does not come out so is a gap that lists the candidates. What other texts say is listed and decides nothing.
//!
//! Of Windows, the build stands in the page that the kernel shares with every process, `KUSER_SHARED_DATA`, known by several
//! of its fields at once; all such pages must agree.

use std::collections::BTreeMap;
use std::ops::Range;

use dormouse_block::{le_u32, slice_at};
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::start::{StartSearch, SystemStart};

/// What every banner begins with.
const NEEDLE: &[u8] = b"Linux version ";
/// Longest banner: builders' names are in it, and compilers' versions.
const MAX_TEXT: usize = 768;
/// Bytes that a text may reach over a border, with what stands before and behind it.
const OVERLAP: usize = MAX_TEXT + 64;
/// Bytes of a page, at whose beginning `VMCOREINFO` and `KUSER_SHARED_DATA` stand.
const PAGE: u64 = 4096;
/// Different texts that are remembered.
const MAX_CANDIDATES: usize = 256;
/// Texts that are looked at: a memory full of nothing else is nobody's.
const MAX_TEXTS: u64 = 1 << 20;

/// What a text about a kernel was found as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelText {
    /// In the form in which a kernel keeps its own.
    Banner,
    /// As the record of a kernel's log.
    Log,
    /// In the notes for whoever dumps the memory.
    Vmcoreinfo,
    /// In another text, such as a log of any boot.
    Quoted,
    /// In the data that Windows shares with every process.
    SharedData,
}

/// A kernel of which memory holds a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KernelCandidate {
    /// Its release: `6.1.0-13-amd64`, or `10.0.20348` of Windows.
    pub release: String,
    /// Which build of it: `#1 SMP PREEMPT_DYNAMIC Debian 6.1.55-1 (2023-09-29)`, where the text says.
    pub build: Option<String>,
    /// As what.
    pub text: KernelText,
    /// In how many places.
    pub places: u64,
    /// The first of them: block of memory and offset in it.
    pub first: (String, u64),
}

/// The kernel that runs in a machine's memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunningKernel {
    /// `linux` or `windows`.
    pub system: String,
    /// Its release.
    pub release: String,
    /// Which build of it, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// The linker's digest of it, where its notes say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// What says so.
    pub why: Vec<String>,
}

/// What was found in a machine's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryKernels {
    /// The kernel that runs, or why that is not known.
    pub running: Result<RunningKernel, String>,
    /// When it was started, or why that is not known; said of Linux alone.
    pub started: Result<SystemStart, String>,
    /// Every kernel that memory speaks of.
    pub candidates: Vec<KernelCandidate>,
}

/// Looks through memory for its kernel and when that was started, piece by piece, in any order; no more than two kilobytes of it
/// are kept. Texts may lie over the borders of pieces that follow each other; `VMCOREINFO` and Windows's shared data are looked for
/// in pieces that hold their pages whole, as pieces of saved memory do.
pub struct KernelSearch {
    finder: Finder<'static>,
    /// The end of the last piece, in which texts may begin that go on in the next.
    tail: Vec<u8>,
    /// How much of the tail was looked at: the byte before the rest.
    seen: usize,
    /// The block of the last piece, and where it ended.
    block: String,
    end: u64,
    found: BTreeMap<(KernelText, String), (u64, (String, u64))>,
    build_ids: BTreeMap<String, String>,
    start: StartSearch,
    /// Texts that were looked at.
    looked_at: u64,
    overflowed: bool,
}

impl Default for KernelSearch {
    fn default() -> Self {
        Self {
            finder: Finder::new(NEEDLE),
            tail: Vec::new(),
            seen: 0,
            block: String::new(),
            end: 0,
            found: BTreeMap::new(),
            build_ids: BTreeMap::new(),
            start: StartSearch::default(),
            looked_at: 0,
            overflowed: false,
        }
    }
}

pub(super) fn offset(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

impl KernelSearch {
    /// Looks through a piece of memory: the bytes of `block` from `at` on.
    pub fn take(&mut self, block: &str, at: u64, bytes: &[u8]) {
        if self.block != block || self.end != at {
            self.rest();
            block.clone_into(&mut self.block);
        }
        self.end = at.saturating_add(offset(bytes.len()));
        self.pages(at, bytes);
        self.start.take(block, at, bytes);
        // Over the border: what begins in the tail.
        let lead = bytes.get(..OVERLAP).unwrap_or(bytes);
        let mut joined = std::mem::take(&mut self.tail);
        let (before, seen) = (joined.len(), std::mem::take(&mut self.seen));
        joined.extend_from_slice(lead);
        let start = at.saturating_sub(offset(before));
        if lead.len() == bytes.len() {
            // All of it, but for what may go on.
            let until = joined.len().saturating_sub(OVERLAP);
            if until <= seen {
                (self.tail, self.seen) = (joined, seen);
                return;
            }
            self.texts(&joined, start, seen..until);
            self.tail = joined.split_off(until.saturating_sub(1));
            self.seen = 1;
            return;
        }
        self.texts(&joined, start, seen..before);
        let until = bytes.len().saturating_sub(OVERLAP);
        // Its first text may have something printable before it.
        let first = before.checked_sub(1).and_then(|last| joined.get(last..));
        match first {
            Some(first) if bytes.starts_with(NEEDLE) => {
                self.texts(first, at.saturating_sub(1), 1..2);
                self.texts(bytes, at, 1..until);
            }
            _ => self.texts(bytes, at, 0..until),
        }
        let keep = until.saturating_sub(1);
        self.tail
            .extend_from_slice(bytes.get(keep..).unwrap_or_default());
        self.seen = 1;
    }

    /// What waits in the tail, with nothing behind it.
    fn rest(&mut self) {
        let (tail, seen) = (
            std::mem::take(&mut self.tail),
            std::mem::take(&mut self.seen),
        );
        let start = self.end.saturating_sub(offset(tail.len()));
        self.texts(&tail, start, seen..tail.len());
    }

    /// Texts that begin in that range of `bytes`, which begin at `start` of the block.
    fn texts(&mut self, bytes: &[u8], start: u64, range: Range<usize>) {
        let last = range.end.saturating_add(NEEDLE.len()).saturating_sub(1);
        let searched = bytes.get(range.start..last.min(bytes.len()));
        let found = self.finder.find_iter(searched.unwrap_or_default());
        let found: Vec<usize> = found.collect();
        for found in found {
            let at = found.saturating_add(range.start);
            let before = at.checked_sub(1).and_then(|at| bytes.get(at).copied());
            let text = bytes.get(at..).unwrap_or_default();
            self.text(start.saturating_add(offset(at)), before, text);
        }
    }

    fn text(&mut self, at: u64, before: Option<u8>, text: &[u8]) {
        self.looked_at = self.looked_at.saturating_add(1);
        if self.looked_at > MAX_TEXTS {
            self.overflowed = true;
            return;
        }
        let text = text.get(..MAX_TEXT).unwrap_or(text);
        let printable = |byte: &u8| (0x20..0x7f).contains(byte);
        let len = text.iter().position(|byte| !printable(byte));
        let Some((line, rest)) = text.split_at_checked(len.unwrap_or(text.len())) else {
            return;
        };
        let line = String::from_utf8_lossy(line);
        if parts(&line).is_none() {
            return;
        }
        let is_own = !before.is_some_and(|byte| printable(&byte)) && rest.starts_with(b"\n\0");
        let kind = if is_own {
            KernelText::Banner
        } else {
            KernelText::Quoted
        };
        self.note(kind, &line, at);
    }

    fn note(&mut self, kind: KernelText, text: &str, at: u64) {
        let key = (kind, text.to_owned());
        if let Some((places, _)) = self.found.get_mut(&key) {
            *places = places.saturating_add(1);
        } else if self.found.len() < MAX_CANDIDATES {
            self.found.insert(key, (1, (self.block.clone(), at)));
        } else {
            self.overflowed = true;
        }
    }

    /// What stands at the beginning of pages.
    fn pages(&mut self, at: u64, bytes: &[u8]) {
        let Some(first) = at.checked_next_multiple_of(PAGE) else {
            return;
        };
        let skip = usize::try_from(first.saturating_sub(at)).unwrap_or(usize::MAX);
        let pages = bytes.get(skip..).unwrap_or_default();
        let size = usize::try_from(PAGE).unwrap_or(4096);
        for (number, page) in pages.chunks_exact(size).enumerate() {
            let place = first.saturating_add(offset(number).saturating_mul(PAGE));
            // The notes themselves, and as their header has them.
            let plain = page.strip_prefix(b"OSRELEASE=");
            let noted = || {
                let name = page.get(12..)?.strip_prefix(b"VMCOREINFO\0\0")?;
                name.strip_prefix(b"OSRELEASE=")
            };
            if let Some(text) = plain.or_else(noted) {
                self.vmcoreinfo(place, text);
            } else if let Some(release) = shared_data(page) {
                self.note(KernelText::SharedData, &release, place);
            }
        }
    }

    fn vmcoreinfo(&mut self, at: u64, text: &[u8]) {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let mut lines = text.lines();
        let Some(release) = lines.next().filter(|release| is_release(release)) else {
            return;
        };
        let id = lines.find_map(|line| line.strip_prefix("BUILD-ID="));
        let id = id.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.len() <= 64);
        if let Some(id) = id {
            self.build_ids.insert(release.to_owned(), id.to_owned());
        }
        self.note(KernelText::Vmcoreinfo, release, at);
    }

    /// What all of it says.
    #[must_use]
    pub fn finish(mut self) -> MemoryKernels {
        self.rest();
        let found = std::mem::take(&mut self.found);
        let mut candidates: BTreeMap<(KernelText, String, Option<String>), KernelCandidate> =
            BTreeMap::new();
        let is_banner = |text: &str| found.contains_key(&(KernelText::Banner, text.to_owned()));
        for ((kind, text), (places, first)) in &found {
            let (kind, release, build) = match kind {
                KernelText::Vmcoreinfo | KernelText::SharedData => (*kind, text.as_str(), None),
                _ => {
                    // The residue of a record of the log.
                    let whole = text
                        .len()
                        .checked_sub(2)
                        .and_then(|at| text.split_at_checked(at))
                        .filter(|(whole, end)| whole.ends_with(end) && is_banner(whole));
                    let (kind, text) = match whole {
                        Some((whole, _)) if *kind == KernelText::Banner => (KernelText::Log, whole),
                        _ => (*kind, text.as_str()),
                    };
                    let Some((release, build)) = parts(text) else {
                        continue;
                    };
                    (kind, release, Some(build.to_owned()))
                }
            };
            let key = (kind, release.to_owned(), build.clone());
            let candidate = candidates.entry(key).or_insert_with(|| KernelCandidate {
                release: release.to_owned(),
                build,
                text: kind,
                places: 0,
                first: first.clone(),
            });
            candidate.places = candidate.places.saturating_add(*places);
        }
        let candidates: Vec<KernelCandidate> = candidates.into_values().collect();
        let started = std::mem::take(&mut self.start).finish();
        let running = if self.overflowed {
            Err(format!(
                "memory holds more than {MAX_CANDIDATES} different texts about kernels, or {MAX_TEXTS} in all"
            ))
        } else {
            decide(&candidates, &self.build_ids)
        };
        MemoryKernels {
            // What says when a kernel was started says nothing of which.
            started: match &running {
                Ok(kernel) if kernel.system == "linux" => started,
                Ok(kernel) => Err(format!(
                    "when {} was started is not looked for in memory",
                    kernel.system
                )),
                Err(_) => Err("its kernel is not known, nor when that was started".to_owned()),
            },
            running,
            candidates,
        }
    }
}

/// Which kernel runs, of those that memory speaks of.
fn decide(
    candidates: &[KernelCandidate],
    build_ids: &BTreeMap<String, String>,
) -> Result<RunningKernel, String> {
    let of = |kind: KernelText| candidates.iter().filter(move |one| one.text == kind);
    let banners: Vec<&KernelCandidate> = of(KernelText::Banner).collect();
    let windows: Vec<&KernelCandidate> = of(KernelText::SharedData).collect();
    let (banner, others) = match (banners.as_slice(), windows.as_slice()) {
        ([], []) => {
            return Err("its memory holds no text by which a kernel is known".to_owned());
        }
        ([], [one]) => {
            return Ok(RunningKernel {
                system: "windows".to_owned(),
                release: one.release.clone(),
                build: None,
                build_id: None,
                why: vec![format!(
                    "the data that Windows shares with every process, in {}",
                    counted(one.places)
                )],
            });
        }
        ([banner], []) => (*banner, of(KernelText::Vmcoreinfo)),
        _ => return Err(disagree(candidates)),
    };
    let mut why = vec![format!("its own banner, in {}", counted(banner.places))];
    for note in others {
        if note.release != banner.release {
            return Err(disagree(candidates));
        }
        why.push(format!("its VMCOREINFO, in {}", counted(note.places)));
    }
    let same = |kind: KernelText, what: &str| {
        let found = of(kind).find(|one| one.release == banner.release && one.build == banner.build);
        found.map(|one| format!("{what}, in {}", counted(one.places)))
    };
    why.extend(same(KernelText::Log, "the record of its log"));
    why.extend(same(KernelText::Quoted, "the same text elsewhere"));
    if why.len() < 2 && banner.places < 2 {
        return Err(format!(
            "one text in its memory says {} and nothing else does",
            banner.release
        ));
    }
    Ok(RunningKernel {
        system: "linux".to_owned(),
        release: banner.release.clone(),
        build: banner.build.clone(),
        build_id: build_ids.get(&banner.release).cloned(),
        why,
    })
}

pub(super) fn counted(places: u64) -> String {
    match places {
        1 => "one place".to_owned(),
        more => format!("{more} places"),
    }
}

/// The candidates in a clause.
fn disagree(candidates: &[KernelCandidate]) -> String {
    /// More would not help anybody to choose.
    const LISTED: usize = 8;
    let mut names: Vec<String> = candidates
        .iter()
        .filter(|one| one.text != KernelText::Quoted)
        .map(|one| match &one.build {
            Some(build) => format!("{} {build}", one.release),
            None => one.release.clone(),
        })
        .collect();
    names.sort();
    names.dedup();
    let more = if names.len() > LISTED { ", ..." } else { "" };
    names.truncate(LISTED);
    format!(
        "its memory speaks of several kernels as its own: {}{more}",
        names.join(", ")
    )
}

/// Release and build of a banner. A build has a number.
fn parts(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("Linux version ")?;
    let (release, rest) = rest.split_once(' ')?;
    let at = rest.find(" #")?;
    let build = rest.get(at.checked_add(1)?..)?;
    let numbered = build.get(1..)?.starts_with(|c: char| c.is_ascii_digit());
    (is_release(release) && numbered).then_some((release, build))
}

/// `6.1.0-13-amd64`: two numbers at least, and nothing that no release has.
fn is_release(text: &str) -> bool {
    let mut numbers = text.split('.');
    let number = |part: Option<&str>| {
        part.is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    };
    number(numbers.next())
        && number(numbers.next())
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-+~".contains(&byte))
}

/// The version and build of Windows in a page that is its `KUSER_SHARED_DATA` (`ntddk.h`): the folder of the system in
/// UTF-16, clocks whose two halves agree, a kind of product that is said to be valid, and a version that exists.
fn shared_data(page: &[u8]) -> Option<String> {
    let folder = slice_at(page, 0x30, 8).ok()?;
    let [drive, 0, b':', 0, b'\\', 0, b'W' | b'w', 0] = folder else {
        return None;
    };
    let field = |at: usize| le_u32(page, at).ok();
    let clock = |at: usize| {
        let high = field(at.checked_add(4)?)?;
        (high == field(at.checked_add(8)?)?).then_some(high)
    };
    clock(0x08)?;
    let time = clock(0x14)?;
    let (major, minor, build) = (field(0x26c)?, field(0x270)?, field(0x260)?);
    // Before Windows 10 the build stands elsewhere.
    let sound = drive.is_ascii_alphabetic()
        && time != 0
        && (1..=3).contains(&field(0x264)?)
        && field(0x268)? & 0xff == 1
        && major == 10
        && minor == 0
        && (10_000..100_000).contains(&build);
    sound.then(|| format!("{major}.{minor}.{build}"))
}
