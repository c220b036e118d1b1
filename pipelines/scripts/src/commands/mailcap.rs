//! `update-mime`: `/etc/mailcap` from what packages say of the files they open, in `/usr/lib/mime/packages` and in their
//! desktop entries. The program is perl's; three texts of it are known by their digests, and no other is interpreted.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

const PROGRAM: &[u8] = b"/usr/sbin/update-mime";
const MAILCAP: &[u8] = b"/etc/mailcap";
const SHIPPED: &[u8] = b"/usr/lib/mime/mailcap";
const ENTRIES: &[u8] = b"/usr/lib/mime/packages";
const APPLICATIONS: &[u8] = b"/usr/share/applications";
/// Read by perl as a program of its own.
const CONFIGURATION: &[u8] = b"/etc/update-mime.conf";
const ORDER: &[u8] = b"/etc/mailcap.order";
/// Of entries that name none.
const USUAL_PRIORITY: u8 = 5;
/// Folders within one another that are searched for desktop entries.
const MAX_DEPTH: u32 = 16;
/// Ends what is kept of `/etc/mailcap`; what is made follows.
const RULE: &[u8] =
    b"\n###############################################################################\n\n";

/// How a text of the program reads desktop entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edition {
    /// mailcap 3.69: the keys of whatever group; `TryExec` is taken for `Exec`.
    Bullseye,
    /// 3.70: those of the group `Desktop Entry` alone.
    Bookworm,
    /// 3.74: `TryExec` becomes a test.
    Trixie,
}

/// SHA-256 of `/usr/sbin/update-mime`.
const EDITIONS: &[(&str, Edition)] = &[
    (
        "67b3b0ef4d7a33bc6fb56eb7a86f960b89b44908b7357ab2f867b8e1e2ef446b",
        Edition::Bullseye,
    ),
    (
        "4b1404653841da73ccebc4bed80b7ac8f0296c4ce1dc836bb7c972cdb5bbb9e0",
        Edition::Bookworm,
    ),
    (
        "bb3804842e052ece104100c0995a992aeb859a199b265cba1e3684aded418914",
        Edition::Trixie,
    ),
];

/// The entries found so far, by priority, each list in the order of finding.
#[derive(Default)]
struct Found {
    by_priority: BTreeMap<u8, Vec<Vec<u8>>>,
    /// Names of packages' files: a desktop entry by the same name counts no more.
    names: BTreeSet<Vec<u8>>,
}

pub(crate) fn update_mime(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    // Called by a maintainer script with anything but this word it does nothing.
    if words.get(1).is_some_and(|word| word != b"--triggered") {
        return Ok(0);
    }
    let Ok(program) = shell.files.read(PROGRAM)? else {
        return shell.usage(b"update-mime", "its program is not where it should be");
    };
    let digest = format!("{:x}", Sha256::digest(&program));
    let Some(&(_, edition)) = EDITIONS.iter().find(|(known, _)| *known == digest) else {
        return shell.usage(b"update-mime", "its program is another version's");
    };
    if shell.files.is_file(CONFIGURATION)? {
        return shell.usage(b"update-mime", "its configuration is a program of perl");
    }
    if let Ok(order) = shell.files.read(ORDER)?
        && lines(&order).any(|line| !is_comment(line))
    {
        return shell.usage(b"update-mime", "an order of one's own is not interpreted");
    }
    let mut found = Found::default();
    for path in listed(shell, ENTRIES)? {
        read_entries(shell, &path, &mut found)?;
    }
    for path in desktop_entries(shell, APPLICATIONS, 0)? {
        read_desktop_entry(shell, &path, edition, &mut found)?;
    }
    let kept = match shell.files.read(MAILCAP)? {
        Ok(kept) => kept,
        Err(_) => match shell.files.read(SHIPPED)? {
            Ok(kept) => kept,
            Err(_) => return Ok(0),
        },
    };
    let Some(mut bytes) = up_to_the_mark(&kept) else {
        shell.complain(b"update-mime", "/etc/mailcap is not in the required format")?;
        return Ok(0);
    };
    bytes.extend_from_slice(RULE);
    for entry in found.ordered() {
        bytes.extend(without_priority(&entry));
        bytes.push(b'\n');
    }
    let _ = shell.files.replace(MAILCAP, bytes, 0o644, (0, 0))?;
    Ok(0)
}

impl Found {
    fn add(&mut self, priority: u8, entry: Vec<u8>) {
        self.by_priority.entry(priority).or_default().push(entry);
    }

    /// The highest priority first; within one, entries for whole classes of types after the exact ones.
    fn ordered(self) -> impl Iterator<Item = Vec<u8>> {
        self.by_priority
            .into_iter()
            .rev()
            .flat_map(|(_, mut entries)| {
                entries.sort_by_key(|entry| breadth(entry));
                entries
            })
    }
}

/// 0 for an exact type, more for `text/*`, most for `*/*`.
fn breadth(entry: &[u8]) -> u8 {
    let word = entry
        .split(|byte| is_space(*byte))
        .next()
        .unwrap_or_default();
    let class = word
        .get(1..)
        .unwrap_or_default()
        .windows(2)
        .any(|pair| pair == b"/*");
    u8::from(class).saturating_add(if entry.starts_with(b"*/") { 2 } else { 0 })
}

/// Perl's `\s` for bytes.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn trimmed_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_space(byte));
    bytes
        .get(start.unwrap_or(bytes.len())..)
        .unwrap_or_default()
}

/// Where the blanks at the end begin.
fn content_end(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|&byte| !is_space(byte));
    last.map_or(0, |last| last.saturating_add(1))
}

fn is_comment(line: &[u8]) -> bool {
    matches!(trimmed_start(line).first(), None | Some(b'#'))
}

/// Paths that the program passes over: hidden ones, and what editors leave.
fn is_passed_over(path: &[u8]) -> bool {
    path.ends_with(b"~") || path.windows(2).any(|pair| matches!(pair, b"/." | b"/#"))
}

/// What perl's `glob "FOLDER/*"` gives: names in byte order, without the hidden ones.
fn listed(shell: &mut Shell<'_>, folder: &[u8]) -> Run<Vec<Vec<u8>>> {
    let names = shell.files.list(folder)?.unwrap_or_default();
    Ok(names
        .iter()
        .filter(|name| !name.starts_with(b"."))
        .map(|name| [folder, b"/", name].concat())
        .collect())
}

/// The files below a folder, those of its folders first.
fn desktop_entries(shell: &mut Shell<'_>, folder: &[u8], depth: u32) -> Run<Vec<Vec<u8>>> {
    if depth > MAX_DEPTH {
        return shell.usage(
            b"update-mime",
            "the folders of desktop entries nest too deep",
        );
    }
    let (mut below, mut here) = (Vec::new(), Vec::new());
    if is_passed_over(folder) {
        return Ok(below);
    }
    for path in listed(shell, folder)? {
        if shell.files.is_directory(&path)? {
            below.extend(desktop_entries(shell, &path, depth.saturating_add(1))?);
        } else if shell.files.is_file(&path)? {
            here.push(path);
        }
    }
    below.extend(here);
    Ok(below)
}

/// Splits as perl reads: the last line may lack its end.
fn read_lines(shell: &mut Shell<'_>, path: &[u8]) -> Run<Vec<Vec<u8>>> {
    let Ok(bytes) = shell.files.read(path)? else {
        return Ok(Vec::new());
    };
    Ok(lines(&bytes).map(<[u8]>::to_vec).collect())
}

fn read_entries(shell: &mut Shell<'_>, path: &[u8], found: &mut Found) -> Run<()> {
    if is_passed_over(path) {
        return Ok(());
    }
    found.names.insert(super::name::base(path).to_vec());
    for line in read_lines(shell, path)? {
        if is_comment(&line) {
            continue;
        }
        let priority = named_priority(&line, true)
            .and_then(|named| {
                std::str::from_utf8(line.get(named.digits)?)
                    .ok()?
                    .parse()
                    .ok()
            })
            .filter(|&priority: &u8| priority <= 9)
            .unwrap_or(USUAL_PRIORITY);
        found.add(priority, line);
    }
    Ok(())
}

/// Where an entry names its priority.
struct Named {
    /// From the blanks before it to the semicolon after it.
    whole: std::ops::Range<usize>,
    digits: std::ops::Range<usize>,
}

/// The first `priority = NUMBER` that a semicolon or the line's end follows.
fn named_priority(line: &[u8], any_case: bool) -> Option<Named> {
    const WORD: &[u8] = b"priority";
    let blanks = |from: usize| -> usize {
        let rest = line.get(from..).unwrap_or_default();
        rest.len().saturating_sub(trimmed_start(rest).len())
    };
    for (at, word) in line.windows(WORD.len()).enumerate() {
        if !(word == WORD || any_case && word.eq_ignore_ascii_case(WORD)) {
            continue;
        }
        let mut next = at.saturating_add(WORD.len());
        next = next.saturating_add(blanks(next));
        if line.get(next) != Some(&b'=') {
            continue;
        }
        next = next.saturating_add(1);
        next = next.saturating_add(blanks(next));
        let rest = line.get(next..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = next..next.saturating_add(count);
        let mut end = digits.end.saturating_add(blanks(digits.end));
        if digits.is_empty() || end < line.len() && line.get(end) != Some(&b';') {
            continue;
        }
        end = end.saturating_add(1).min(line.len());
        let before = line.get(..at).unwrap_or_default();
        return Some(Named {
            whole: content_end(before)..end,
            digits,
        });
    }
    None
}

/// An entry as it is written: without its priority, and without a semicolon at its end.
fn without_priority(entry: &[u8]) -> Vec<u8> {
    let mut out = entry.to_vec();
    if let Some(named) = named_priority(entry, false) {
        out.drain(named.whole);
    }
    let content = content_end(&out);
    if let Some(before) = out.get(..content).and_then(|text| text.strip_suffix(b";")) {
        let kept = content_end(before);
        out.truncate(kept);
    }
    out
}

/// What a key of a desktop entry says, wherever the key stands in the line if it may.
fn value<'l>(line: &'l [u8], key: &[u8], anywhere: bool) -> Option<&'l [u8]> {
    let at = line
        .windows(key.len())
        .position(|part| part.eq_ignore_ascii_case(key))
        .filter(|&at| anywhere || at == 0)?;
    line.get(at.saturating_add(key.len())..)
}

fn replaced(text: &[u8], from: &[&[u8]], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match from.iter().find_map(|from| rest.strip_prefix(*from)) {
            Some(after) => {
                out.extend_from_slice(to);
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// A semicolon would end the command's field of a mailcap entry: escaped, unless an odd number of backslashes does so.
fn escaped_semicolons(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut backslashes = 0_usize;
    for &byte in text {
        if byte == b';' && backslashes.is_multiple_of(2) {
            out.push(b'\\');
        }
        backslashes = if byte == b'\\' {
            backslashes.saturating_add(1)
        } else {
            0
        };
        out.push(byte);
    }
    out
}

fn read_desktop_entry(
    shell: &mut Shell<'_>,
    path: &[u8],
    edition: Edition,
    found: &mut Found,
) -> Run<()> {
    let Some(stem) = super::name::base(path).strip_suffix(b".desktop") else {
        return Ok(());
    };
    if is_passed_over(path) || !found.names.insert(stem.to_vec()) {
        return Ok(());
    }
    let (mut name, mut icon) = (stem.to_vec(), Vec::new());
    let (mut command, mut types) = (None, Vec::new());
    let (mut terminal, mut test) = (false, None);
    let mut within = edition == Edition::Bullseye;
    for line in read_lines(shell, path)? {
        if is_comment(&line) {
            continue;
        }
        if edition > Edition::Bullseye && line.starts_with(b"[") && line.ends_with(b"]") {
            within = line == b"[Desktop Entry]";
            continue;
        }
        if !within {
            continue;
        }
        let some = |value: &&[u8]| !value.is_empty();
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if let Some(value) = value(&line, b"Terminal=", false)
            && value.first().is_some_and(word)
        {
            let count = value.iter().take_while(|byte| word(byte)).count();
            terminal |= value.get(..count) == Some(b"true");
        } else if let Some(value) = value(&line, b"Name=", false).filter(some) {
            name = value.to_vec();
        } else if let Some(value) = value(&line, b"Icon=", false).filter(some) {
            icon = value.to_vec();
        } else if let Some(value) = value(&line, b"Exec=", edition < Edition::Trixie) {
            let mut text = value.to_vec();
            if edition == Edition::Trixie {
                text = escaped_semicolons(&text);
            }
            text = replaced(&text, &[b"%f", b"%F", b"%u", b"%U"], b"%s");
            if !text.windows(2).any(|pair| pair == b"%s") {
                text.extend_from_slice(b" %s");
            }
            command = Some(text);
        } else if edition == Edition::Trixie
            && let Some(value) = value(&line, b"TryExec=", false)
        {
            test = Some([b"test=command -v ", value, b" > /dev/null 2>&1"].concat());
        } else if let Some(value) = value(&line, b"MimeType=", true) {
            types.extend(between_semicolons(value));
        }
    }
    let Some(command) = command else {
        return Ok(());
    };
    let screen: &[u8] = b"test -n \"$DISPLAY\"";
    let condition = match (terminal, test) {
        (true, None) => b"needsterminal".to_vec(),
        (true, Some(test)) => [b"needsterminal; ", &test[..]].concat(),
        (false, None) => [b"test=", screen].concat(),
        (false, Some(test)) => [&test[..], b" && ", screen].concat(),
    };
    let command = replaced(&command, &[b"%c"], &name);
    let command = replaced(&command, &[b"%i"], &[b"--icon ", &icon[..]].concat());
    for kind in types {
        let entry = [&kind[..], b"; ", &command, b"; ", &condition].concat();
        found.add(USUAL_PRIORITY, entry);
    }
    Ok(())
}

/// The parts between semicolons, without the blanks around those; empty ones count for nothing.
fn between_semicolons(list: &[u8]) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> = list.split(|&byte| byte == b';').collect();
    let last = parts.len().saturating_sub(1);
    let touched = |(at, part): (usize, &&[u8])| {
        let part = if at > 0 { trimmed_start(part) } else { part };
        let end = if at < last {
            content_end(part)
        } else {
            part.len()
        };
        part.get(..end).unwrap_or_default().to_vec()
    };
    let parts = parts.iter().enumerate().map(touched);
    parts.filter(|part| !part.is_empty()).collect()
}

/// What stands in `/etc/mailcap` up to the end of the user's own part; `None` where its two marks are missing.
fn up_to_the_mark(kept: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut begun = false;
    for line in kept.split_inclusive(|&byte| byte == b'\n') {
        let line = replaced(line, &[b"install-mime"], b"update-mime");
        out.extend_from_slice(&line);
        let marks = |word: &[u8]| {
            line.strip_prefix(b"# ----- ")
                .is_some_and(|rest| rest.windows(word.len()).any(|part| part == word))
        };
        if begun && marks(b" Ends ") {
            return Some(out);
        }
        begun |= marks(b" Begins ");
    }
    None
}
