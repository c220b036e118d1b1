//! Filters of lines: `cat`, `head`, `tail`, `wc`, `sort`, `uniq`, `cut`, `tr`, `tee`, `tac`, `comm`, `paste`, `nl`.

use std::cmp::Ordering;

use super::arguments::{self, Arguments, Spec};
use crate::shell::{Shell, pattern};
use crate::stop::Run;

/// The lines of a text, without their newlines.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n")
        .or((!text.is_empty()).then_some(text))
        .into_iter()
        .flat_map(|text| text.split(|&byte| byte == b'\n'))
}

/// Joins the inputs that `operands` name; unreadable ones are reported and make the status 1.
fn inputs(shell: &mut Shell<'_>, command: &[u8], operands: &[Vec<u8>]) -> Run<(Vec<Vec<u8>>, i32)> {
    if operands.is_empty() {
        return Ok((vec![shell.read_all()?], 0));
    }
    let mut out = Vec::new();
    let mut status = 0;
    for path in operands {
        if path == b"-" {
            out.push(shell.read_all()?);
            continue;
        }
        match shell.files.read(path)? {
            Ok(text) => out.push(text),
            Err(errno) => {
                let text = format!("{}: {errno}", String::from_utf8_lossy(path));
                shell.complain(command, text)?;
                status = 1;
            }
        }
    }
    Ok((out, status))
}

const CAT: Spec = Spec {
    short: "nuA",
    long: &[("number", 'n')],
    permute: true,
};

pub(crate) fn cat(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &CAT)?;
    if arguments.has('A') {
        return shell.usage(b"cat", "-A is not interpreted");
    }
    let (texts, status) = inputs(shell, b"cat", &arguments.operands)?;
    let all = texts.concat();
    if !arguments.has('n') {
        shell.out(&all)?;
        return Ok(status);
    }
    let mut out = Vec::new();
    for (index, line) in lines(&all).enumerate() {
        out.extend_from_slice(format!("{:6}\t", index.saturating_add(1)).as_bytes());
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    shell.out(&out)?;
    Ok(status)
}

const HEAD: Spec = Spec {
    short: "n:c:q0?1?2?3?4?5?6?7?8?9?",
    long: &[("lines=", 'n'), ("bytes=", 'c'), ("quiet", 'q')],
    permute: true,
};

/// The count given by `-n 5`, `-5` or `-c 5`, its sign, and whether it counts bytes.
fn count(arguments: &Arguments) -> Option<(usize, Option<u8>, bool)> {
    for (letter, value) in arguments.options() {
        let text = if letter.is_ascii_digit() {
            let mut text = letter.to_string().into_bytes();
            text.extend_from_slice(value.unwrap_or_default());
            text
        } else if letter == 'n' || letter == 'c' {
            value.unwrap_or_default().to_vec()
        } else {
            continue;
        };
        let sign = text.first().copied().filter(|byte| b"+-".contains(byte));
        let digits = text.get(usize::from(sign.is_some())..)?;
        let count = std::str::from_utf8(digits).ok()?.parse().ok()?;
        return Some((count, sign, letter == 'c'));
    }
    Some((10, None, false))
}

fn pieces(text: &[u8], bytes: bool) -> Vec<&[u8]> {
    if bytes {
        text.chunks(1).collect()
    } else {
        text.split_inclusive(|&byte| byte == b'\n').collect()
    }
}

pub(crate) fn head(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    part(shell, words, b"head")
}

pub(crate) fn tail(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    part(shell, words, b"tail")
}

fn part(shell: &mut Shell<'_>, words: &[Vec<u8>], command: &[u8]) -> Run<i32> {
    // "tail +5" of old.
    let arguments = arguments::read(shell, words, &HEAD)?;
    let Some((count, sign, bytes)) = count(&arguments) else {
        return shell.usage(command, "the count is not interpreted");
    };
    let (texts, status) = inputs(shell, command, &arguments.operands)?;
    if texts.len() > 1 {
        return shell.usage(command, "more than one file is not interpreted");
    }
    let text = texts.concat();
    let pieces = pieces(&text, bytes);
    let kept: &[&[u8]] = match (command, sign) {
        (b"head", Some(b'-')) => pieces.get(..pieces.len().saturating_sub(count)),
        (b"head", _) => pieces.get(..count.min(pieces.len())),
        (_, Some(b'+')) => pieces.get(count.saturating_sub(1).min(pieces.len())..),
        _ => pieces.get(pieces.len().saturating_sub(count)..),
    }
    .unwrap_or_default();
    shell.out(&kept.concat())?;
    Ok(status)
}

const WC: Spec = Spec {
    short: "lwcmL",
    long: &[("lines", 'l'), ("words", 'w'), ("bytes", 'c'), ("chars", 'm')],
    permute: true,
};

pub(crate) fn wc(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &WC)?;
    if arguments.has('L') || arguments.operands.len() > 1 {
        return shell.usage(b"wc", "-L and more than one file are not interpreted");
    }
    let (texts, status) = inputs(shell, b"wc", &arguments.operands)?;
    let text = texts.concat();
    if status != 0 {
        return Ok(status);
    }
    let wanted: Vec<char> = "lwcm".chars().filter(|&letter| arguments.has(letter)).collect();
    let plain = wanted.is_empty();
    let wanted = if plain { vec!['l', 'w', 'c'] } else { wanted };
    let newlines = text.iter().filter(|&&byte| byte == b'\n').count();
    let counts: Vec<usize> = wanted
        .iter()
        .map(|letter| match letter {
            'l' => newlines,
            'w' => text
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .count(),
            _ => text.len(),
        })
        .collect();
    // Widths as GNU's: of a file, that of its size; of a pipe, 7 for several counts.
    let width = match (counts.len(), arguments.operands.is_empty()) {
        (1, _) => 0,
        (_, true) => 7,
        (_, false) => text.len().to_string().len(),
    };
    let line: Vec<String> = counts.iter().map(|count| format!("{count:width$}")).collect();
    let mut line = line.join(" ").into_bytes();
    if let Some(name) = arguments.operand(0) {
        line.push(b' ');
        line.extend_from_slice(name);
    }
    line.push(b'\n');
    shell.out(&line)?;
    Ok(status)
}

const SORT: Spec = Spec {
    short: "urngfbVk:t:o:cszdhM",
    long: &[
        ("unique", 'u'),
        ("reverse", 'r'),
        ("numeric-sort", 'n'),
        ("ignore-case", 'f'),
        ("version-sort", 'V'),
        ("key=", 'k'),
        ("field-separator=", 't'),
        ("output=", 'o'),
        ("stable", 's'),
        ("check", 'c'),
    ],
    permute: true,
};

struct Key {
    start: usize,
    end: Option<usize>,
    numeric: bool,
    reverse: bool,
}

pub(crate) fn sort(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &SORT)?;
    if "cVzdhMb".chars().any(|letter| arguments.has(letter)) {
        return shell.usage(b"sort", "-b, -c, -d, -h, -M, -V and -z are not interpreted");
    }
    let mut keys = Vec::new();
    if arguments.has('g') && arguments.has('k') {
        return shell.usage(b"sort", "-g with keys is not interpreted");
    }
    for text in arguments.values('k') {
        match key(text, &arguments) {
            Some(key) => keys.push(key),
            None => return shell.usage(b"sort", "the key is not interpreted"),
        }
    }
    if keys.is_empty() {
        keys.push(Key {
            start: 0,
            end: None,
            numeric: arguments.has('n') || arguments.has('g'),
            reverse: arguments.has('r'),
        });
    }
    let separator = arguments.value('t').and_then(|text| text.first().copied());
    let (texts, status) = inputs(shell, b"sort", &arguments.operands)?;
    if status != 0 {
        return Ok(2);
    }
    let mut all: Vec<Vec<u8>> = Vec::new();
    for text in &texts {
        all.extend(lines(text).map(<[u8]>::to_vec));
    }
    let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
    shell.files.budget.step(count.saturating_mul(20))?;
    // General numbers are interpreted where they are plain ones.
    let plain = |line: &Vec<u8>| line.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if arguments.has('g') && !all.iter().all(plain) {
        return shell.usage(b"sort", "-g of such numbers is not interpreted");
    }
    let fold = arguments.has('f');
    let by_keys = |a: &Vec<u8>, b: &Vec<u8>| {
        for key in &keys {
            let (x, y) = (field(a, key, separator), field(b, key, separator));
            let order = if key.numeric {
                number(&x).cmp(&number(&y))
            } else if fold {
                x.to_ascii_uppercase().cmp(&y.to_ascii_uppercase())
            } else {
                x.cmp(&y)
            };
            if order != Ordering::Equal {
                return if key.reverse { order.reverse() } else { order };
            }
        }
        Ordering::Equal
    };
    let whole = |a: &Vec<u8>, b: &Vec<u8>| {
        let order = a.cmp(b);
        if arguments.has('r') {
            order.reverse()
        } else {
            order
        }
    };
    let unique = arguments.has('u');
    if unique || arguments.has('s') {
        all.sort_by(|a, b| by_keys(a, b));
    } else {
        all.sort_by(|a, b| by_keys(a, b).then_with(|| whole(a, b)));
    }
    if unique {
        all.dedup_by(|b, a| by_keys(a, b) == Ordering::Equal);
    }
    let mut out = Vec::new();
    for line in all {
        out.extend_from_slice(&line);
        out.push(b'\n');
    }
    match arguments.value('o') {
        Some(path) => {
            if let Err(errno) = shell.files.write(path, out)? {
                shell.complain(b"sort", errno.to_string())?;
                return Ok(2);
            }
        }
        None => shell.out(&out)?,
    }
    Ok(0)
}

fn key(text: &[u8], arguments: &Arguments) -> Option<Key> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let letters = text.get(digits.len()..)?;
    let (start, end) = match digits.split_once(',') {
        Some((start, end)) => (start.parse::<usize>().ok()?, Some(end.parse::<usize>().ok()?)),
        None => (digits.parse::<usize>().ok()?, None),
    };
    let own = !letters.is_empty();
    if !letters.chars().all(|letter| "nr".contains(letter)) {
        return None;
    }
    Some(Key {
        start: start.checked_sub(1)?,
        end,
        numeric: if own { letters.contains('n') } else { arguments.has('n') },
        reverse: if own { letters.contains('r') } else { arguments.has('r') },
    })
}

fn field(line: &[u8], key: &Key, separator: Option<u8>) -> Vec<u8> {
    if key.start == 0 && key.end.is_none() {
        return line.to_vec();
    }
    let bounds: Vec<(usize, usize)> = match separator {
        Some(separator) => {
            let mut out = Vec::new();
            let mut start = 0_usize;
            for part in line.split(|&byte| byte == separator) {
                out.push((start, start.saturating_add(part.len())));
                start = start.saturating_add(part.len()).saturating_add(1);
            }
            out
        }
        // A field begins with the blanks before it.
        None => {
            let mut out = Vec::new();
            let mut at = 0_usize;
            while at < line.len() {
                let start = at;
                let blank = |at: usize| matches!(line.get(at), Some(b' ' | b'\t'));
                while blank(at) {
                    at = at.saturating_add(1);
                }
                while at < line.len() && !blank(at) {
                    at = at.saturating_add(1);
                }
                out.push((start, at));
            }
            out
        }
    };
    let Some(&(start, _)) = bounds.get(key.start) else {
        return Vec::new();
    };
    let end = key
        .end
        .and_then(|end| bounds.get(end.saturating_sub(1)))
        .map_or(line.len(), |&(_, end)| end);
    line.get(start..end).unwrap_or_default().to_vec()
}

/// The number at the start of a text, as `sort -n` compares: sign, integer digits, fraction digits.
fn number(text: &[u8]) -> (i8, i128, Vec<u8>) {
    let text = text.trim_ascii_start();
    let (negative, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let (integer, after) = rest.split_at(end.min(30));
    let value: i128 = std::str::from_utf8(integer).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let fraction: Vec<u8> = after
        .strip_prefix(b".")
        .map(|after| after.iter().copied().take_while(u8::is_ascii_digit).collect())
        .unwrap_or_default();
    if negative {
        (0, value.saturating_neg(), fraction.iter().map(|byte| !byte).collect())
    } else {
        (0, value, fraction)
    }
}

const UNIQ: Spec = Spec {
    short: "cdui",
    long: &[("count", 'c'), ("repeated", 'd'), ("unique", 'u'), ("ignore-case", 'i')],
    permute: true,
};

pub(crate) fn uniq(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &UNIQ)?;
    if arguments.operands.len() > 1 {
        return shell.usage(b"uniq", "an output file is not interpreted");
    }
    let (texts, status) = inputs(shell, b"uniq", &arguments.operands)?;
    let text = texts.concat();
    let mut runs: Vec<(usize, &[u8])> = Vec::new();
    for line in lines(&text) {
        let same = |other: &[u8]| {
            if arguments.has('i') {
                other.eq_ignore_ascii_case(line)
            } else {
                other == line
            }
        };
        match runs.last_mut() {
            Some((count, last)) if same(last) => *count = count.saturating_add(1),
            _ => runs.push((1, line)),
        }
    }
    let mut out = Vec::new();
    for (count, line) in runs {
        if (arguments.has('d') && count < 2) || (arguments.has('u') && count > 1) {
            continue;
        }
        if arguments.has('c') {
            out.extend_from_slice(format!("{count:7} ").as_bytes());
        }
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    shell.out(&out)?;
    Ok(status)
}

const CUT: Spec = Spec {
    short: "d:f:c:b:sn",
    long: &[
        ("delimiter=", 'd'),
        ("fields=", 'f'),
        ("characters=", 'c'),
        ("bytes=", 'b'),
        ("only-delimited", 's'),
        ("output-delimiter=", 'o'),
    ],
    permute: true,
};

/// Ranges such as `1,3-5,7-`, from 1, the last inclusive.
fn ranges(text: &[u8]) -> Option<Vec<(usize, usize)>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut out = Vec::new();
    for part in text.split([',', ' ']) {
        let range = match part.split_once('-') {
            None => {
                let at = part.parse().ok()?;
                (at, at)
            }
            Some((start, end)) => {
                if start.is_empty() && end.is_empty() {
                    return None;
                }
                let start = if start.is_empty() { 1 } else { start.parse().ok()? };
                let end = if end.is_empty() { usize::MAX } else { end.parse().ok()? };
                (start, end)
            }
        };
        if range.0 == 0 || range.1 < range.0 {
            return None;
        }
        out.push(range);
    }
    Some(out)
}

pub(crate) fn cut(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &CUT)?;
    let by_field = arguments.has('f');
    let list = arguments.value('f').or(arguments.value('c')).or(arguments.value('b'));
    let Some(ranges) = list.and_then(ranges) else {
        shell.complain(b"cut", "invalid or missing list")?;
        return Ok(1);
    };
    let delimiter = match arguments.value('d') {
        None => b'\t',
        Some([byte]) => *byte,
        Some(_) => {
            shell.complain(b"cut", "the delimiter must be a single character")?;
            return Ok(1);
        }
    };
    let glue = arguments.value('o').map_or_else(
        || if by_field { vec![delimiter] } else { Vec::new() },
        <[u8]>::to_vec,
    );
    let chosen = |index: usize| {
        let number = index.saturating_add(1);
        ranges.iter().any(|&(start, end)| (start..=end).contains(&number))
    };
    let (texts, status) = inputs(shell, b"cut", &arguments.operands)?;
    let mut out = Vec::new();
    for line in texts.iter().flat_map(|text| lines(text)) {
        shell.files.budget.step(1)?;
        if by_field {
            if !line.contains(&delimiter) {
                if !arguments.has('s') {
                    out.extend_from_slice(line);
                    out.push(b'\n');
                }
                continue;
            }
            let fields: Vec<&[u8]> = line
                .split(|&byte| byte == delimiter)
                .enumerate()
                .filter(|&(index, _)| chosen(index))
                .map(|(_, field)| field)
                .collect();
            out.extend_from_slice(&fields.join(glue.as_slice()));
        } else if !glue.is_empty() {
            return shell.usage(b"cut", "--output-delimiter is interpreted for fields only");
        } else {
            out.extend(
                line.iter()
                    .enumerate()
                    .filter(|&(index, _)| chosen(index))
                    .map(|(_, &byte)| byte),
            );
        }
        out.push(b'\n');
    }
    shell.out(&out)?;
    Ok(status)
}

const TR: Spec = Spec {
    short: "cCdst",
    long: &[
        ("complement", 'c'),
        ("delete", 'd'),
        ("squeeze-repeats", 's'),
        ("truncate-set1", 't'),
    ],
    permute: false,
};

/// The characters of a set of `tr`; `None` for what is not interpreted.
fn set(text: &[u8]) -> Option<Vec<u8>> {
    let mut units: Vec<(u8, bool)> = Vec::new();
    let mut at = 0_usize;
    let mut out: Vec<u8> = Vec::new();
    while let Some(&byte) = text.get(at) {
        at = at.saturating_add(1);
        if byte == b'\\' {
            let next = text.get(at).copied();
            if let Some(b'0'..=b'7') = next {
                let mut value = 0_u32;
                for _ in 0..3 {
                    let Some(&digit @ b'0'..=b'7') = text.get(at) else {
                        break;
                    };
                    at = at.saturating_add(1);
                    value = (value << 3) | u32::from(digit.wrapping_sub(b'0'));
                }
                units.push((u8::try_from(value).ok()?, true));
                continue;
            }
            at = at.saturating_add(1);
            let value = match next {
                None => {
                    units.push((b'\\', true));
                    continue;
                }
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'a') => 7,
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'v') => 11,
                Some(other) => other,
            };
            units.push((value, true));
            continue;
        }
        if byte == b'[' && text.get(at) == Some(&b':') {
            let start = at.saturating_add(1);
            let rest = text.get(start..).unwrap_or_default();
            if let Some(length) = rest.windows(2).position(|pair| pair == b":]") {
                let class = pattern::class(rest.get(..length)?)?;
                flush(&mut units, &mut out)?;
                out.extend((0..=255_u8).filter(|&byte| class(byte)));
                at = start.saturating_add(length).saturating_add(2);
                continue;
            }
        }
        if byte == b'[' && matches!(text.get(at), Some(b'=')) {
            return None;
        }
        if byte == b'[' && text.get(at..).is_some_and(|rest| rest.len() > 2 && rest.get(1) == Some(&b'*')) {
            return None;
        }
        units.push((byte, false));
    }
    flush(&mut units, &mut out)?;
    Some(out)
}

/// Resolves ranges among single characters.
fn flush(units: &mut Vec<(u8, bool)>, out: &mut Vec<u8>) -> Option<()> {
    let mut at = 0_usize;
    while let Some(&(byte, _)) = units.get(at) {
        if let (Some((b'-', false)), Some(&(end, _))) =
            (units.get(at.saturating_add(1)), units.get(at.saturating_add(2)))
        {
            if end < byte {
                return None;
            }
            out.extend(byte..=end);
            at = at.saturating_add(3);
            continue;
        }
        out.push(byte);
        at = at.saturating_add(1);
    }
    units.clear();
    Some(())
}

pub(crate) fn tr(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &TR)?;
    let Some(mut first) = arguments.operand(0).and_then(set) else {
        return shell.usage(b"tr", "the first set is not interpreted");
    };
    let second = match arguments.operand(1) {
        Some(text) => match set(text) {
            Some(second) => Some(second),
            None => return shell.usage(b"tr", "the second set is not interpreted"),
        },
        None => None,
    };
    let (delete, squeeze) = (arguments.has('d'), arguments.has('s'));
    if arguments.has('t') || arguments.operands.len() > 2 || (second.is_none() && !delete && !squeeze) {
        return shell.usage(b"tr", "the call is not interpreted");
    }
    if arguments.has('c') || arguments.has('C') {
        first = (0..=255_u8).filter(|byte| !first.contains(byte)).collect();
    }
    let text = shell.read_all()?;
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let translates = second.is_some() && !delete;
    let squeezed: &[u8] = match &second {
        Some(second) => second,
        None => &first,
    };
    let mut map: Vec<u8> = (0..=255).collect();
    if translates {
        let to = second.clone().unwrap_or_default();
        let Some(&last) = to.last() else {
            return shell.usage(b"tr", "the second set is empty");
        };
        for (index, &from) in first.iter().enumerate() {
            if let Some(place) = map.get_mut(usize::from(from)) {
                *place = to.get(index).copied().unwrap_or(last);
            }
        }
    }
    for byte in text {
        if delete && first.contains(&byte) {
            continue;
        }
        let byte = map.get(usize::from(byte)).copied().unwrap_or(byte);
        if squeeze && out.last() == Some(&byte) && squeezed.contains(&byte) {
            continue;
        }
        out.push(byte);
    }
    shell.out(&out)?;
    Ok(0)
}

const TEE: Spec = Spec {
    short: "ai",
    long: &[("append", 'a')],
    permute: true,
};

pub(crate) fn tee(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &TEE)?;
    let text = shell.read_all()?;
    let mut status = 0;
    for path in &arguments.operands {
        let content = if arguments.has('a') {
            let mut before = shell.files.read(path)?.unwrap_or_default();
            before.extend_from_slice(&text);
            before
        } else {
            text.clone()
        };
        if let Err(errno) = shell.files.write(path, content)? {
            shell.complain(b"tee", errno.to_string())?;
            status = 1;
        }
    }
    shell.out(&text)?;
    Ok(status)
}

pub(crate) fn tac(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let (texts, status) = inputs(shell, b"tac", words.get(1..).unwrap_or_default())?;
    let mut out = Vec::new();
    for text in &texts {
        let mut all: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
        all.reverse();
        out.extend_from_slice(&all.concat());
    }
    shell.out(&out)?;
    Ok(status)
}
