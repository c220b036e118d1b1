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

use serde::{Deserialize, Serialize};

use super::start::{StartSearch, SystemStart};
use super::texts::{MemoryTexts, Text};

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

/// What the batches of a memory say of its kernel and its start, put together.
#[derive(Default)]
pub struct KernelSearch {
    /// Each text: in how many places, and the first of them.
    found: BTreeMap<(KernelText, String), (u64, (String, u64))>,
    build_ids: BTreeMap<String, String>,
    start: StartSearch,
    /// Texts that were looked at.
    looked_at: u64,
    overflowed: bool,
}

impl KernelSearch {
    /// Adds what was found in a batch. Batches come in their order, so that the first place of a text is the first.
    pub fn note(&mut self, batch: MemoryTexts) {
        for text in batch.texts {
            if text.looked_at <= MAX_TEXTS.saturating_sub(self.looked_at) {
                self.text(text);
            }
        }
        self.looked_at = self.looked_at.saturating_add(batch.looked_at);
        self.overflowed |= self.looked_at > MAX_TEXTS;
        self.start.note(batch.start);
    }

    fn text(&mut self, text: Text) {
        let key = (text.kind, text.text);
        if !self.found.contains_key(&key) && self.found.len() >= MAX_CANDIDATES {
            self.overflowed = true;
            return;
        }
        if let Some(id) = text.build_id {
            self.build_ids.insert(key.1.clone(), id);
        }
        let first = || (0, (text.block.to_string(), text.at));
        let (places, _) = self.found.entry(key).or_insert_with(first);
        *places = places.saturating_add(1);
    }

    /// What all of it says.
    #[must_use]
    pub fn finish(mut self) -> MemoryKernels {
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
pub(super) fn parts(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("Linux version ")?;
    let (release, rest) = rest.split_once(' ')?;
    let at = rest.find(" #")?;
    let build = rest.get(at.checked_add(1)?..)?;
    let numbered = build.get(1..)?.starts_with(|c: char| c.is_ascii_digit());
    (is_release(release) && numbered).then_some((release, build))
}

/// `6.1.0-13-amd64`: two numbers at least, and nothing that no release has.
pub(super) fn is_release(text: &str) -> bool {
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
