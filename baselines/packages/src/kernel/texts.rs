//! Texts about kernels in a batch of memory.

use std::sync::{Arc, LazyLock};

use dormouse_block::{le_u32, slice_at};
use memchr::memmem::Finder;

use super::batch::Places;
use super::memory::{KernelText, is_release, parts};
use super::start::StartTexts;

/// What every banner begins with.
static NEEDLE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"Linux version "));
/// Longest banner: builders' names are in it, and compilers' versions.
const MAX_TEXT: usize = 768;
/// Bytes of a page, at whose beginning `VMCOREINFO` and `KUSER_SHARED_DATA` stand.
const PAGE: usize = 4096;

/// What a batch of memory says of kernels and their start, each in the order of its places.
#[derive(Default)]
pub struct MemoryTexts {
    /// How many places with a banner's beginning were looked at.
    pub(super) looked_at: u64,
    pub(super) texts: Vec<Text>,
    pub(super) start: StartTexts,
}

/// A text about a kernel.
pub(super) struct Text {
    pub(super) kind: KernelText,
    pub(super) text: String,
    /// The linker's digest of the kernel, where it is noted.
    pub(super) build_id: Option<String>,
    pub(super) block: Arc<str>,
    pub(super) at: u64,
    /// How many banners' beginnings had been looked at with it, if it is one.
    pub(super) looked_at: u64,
}

impl MemoryTexts {
    /// Looks at these places.
    pub(super) fn look(&mut self, places: &Places<'_>) {
        let from = self.texts.len();
        self.banners(places);
        self.pages(places);
        if let Some(new) = self.texts.get_mut(from..) {
            new.sort_by_key(|text| text.at);
        }
        self.start.look(places);
    }

    fn banners(&mut self, places: &Places<'_>) {
        for at in beginnings(places, &NEEDLE) {
            self.looked_at = self.looked_at.saturating_add(1);
            let before = at.checked_sub(1).and_then(|at| places.bytes.get(at));
            if let Some((kind, text)) = banner(before.copied(), places.from(at)) {
                self.texts.push(Text {
                    kind,
                    text,
                    build_id: None,
                    block: places.block.clone(),
                    at: places.offset(at),
                    looked_at: self.looked_at,
                });
            }
        }
    }

    /// What stands at the beginning of pages.
    fn pages(&mut self, places: &Places<'_>) {
        let size = u64::try_from(PAGE).unwrap_or(u64::MAX);
        let first = places.aligned(places.range.start, size);
        for at in (first..places.range.end).step_by(PAGE) {
            let Some(page) = places.from(at).get(..PAGE) else {
                return;
            };
            // The notes themselves, and as their header has them.
            let plain = page.strip_prefix(b"OSRELEASE=");
            let noted = || {
                let name = page.get(12..)?.strip_prefix(b"VMCOREINFO\0\0")?;
                name.strip_prefix(b"OSRELEASE=")
            };
            let (kind, found) = match plain.or_else(noted) {
                Some(text) => (KernelText::Vmcoreinfo, vmcoreinfo(text)),
                None => (KernelText::SharedData, shared_data(page)),
            };
            self.texts.extend(found.map(|(text, build_id)| Text {
                kind,
                text,
                build_id,
                block: places.block.clone(),
                at: places.offset(at),
                looked_at: 0,
            }));
        }
    }
}

/// The places where a needle begins.
pub(super) fn beginnings<'a>(
    places: &'a Places<'_>,
    needle: &'a Finder<'_>,
) -> impl Iterator<Item = usize> + 'a {
    let from = places.range.start;
    let last = places.range.end.saturating_add(needle.needle().len());
    let last = last.saturating_sub(1).min(places.bytes.len());
    let searched = places.bytes.get(from..last).unwrap_or_default();
    needle
        .find_iter(searched)
        .map(move |found| found.saturating_add(from))
}

/// The banner at the beginning of `bytes`, and as what it is there.
fn banner(before: Option<u8>, bytes: &[u8]) -> Option<(KernelText, String)> {
    let bytes = bytes.get(..MAX_TEXT).unwrap_or(bytes);
    let printable = |byte: &u8| (0x20..0x7f).contains(byte);
    let len = bytes.iter().position(|byte| !printable(byte));
    let (line, rest) = bytes.split_at_checked(len.unwrap_or(bytes.len()))?;
    let line = String::from_utf8_lossy(line);
    parts(&line)?;
    let is_own = !before.is_some_and(|byte| printable(&byte)) && rest.starts_with(b"\n\0");
    let kind = if is_own {
        KernelText::Banner
    } else {
        KernelText::Quoted
    };
    Some((kind, line.into_owned()))
}

/// Release and linker's digest in a `VMCOREINFO`.
fn vmcoreinfo(text: &[u8]) -> Option<(String, Option<String>)> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let release = lines.next().filter(|release| is_release(release))?;
    let id = lines.find_map(|line| line.strip_prefix("BUILD-ID="));
    let id = id.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.len() <= 64);
    Some((release.to_owned(), id.map(str::to_owned)))
}

/// The version and build of Windows in a page that is its `KUSER_SHARED_DATA` (`ntddk.h`): the folder of the system in
/// UTF-16, clocks whose two halves agree, a kind of product that is said to be valid, and a version that exists.
fn shared_data(page: &[u8]) -> Option<(String, Option<String>)> {
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
    sound.then(|| (format!("{major}.{minor}.{build}"), None))
}
