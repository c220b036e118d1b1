//! Filters of lines: `cat`, `head`, `tail`, `wc`, `uniq`, `cut`, `tee`, `tac`.

use super::arguments::{self, Arguments, Spec};
use crate::shell::Shell;
use crate::stop::Run;

/// The lines of a text, without their newlines.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_suffix(b"\n")
        .or((!text.is_empty()).then_some(text))
        .into_iter()
        .flat_map(|text| text.split(|&byte| byte == b'\n'))
}

/// Joins the inputs that `operands` name; unreadable ones are reported and make the status 1.
pub(super) fn inputs(
    shell: &mut Shell<'_>,
    command: &[u8],
    operands: &[Vec<u8>],
) -> Run<(Vec<Vec<u8>>, i32)> {
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
    long: &[
        ("lines", 'l'),
        ("words", 'w'),
        ("bytes", 'c'),
        ("chars", 'm'),
    ],
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
    let wanted: Vec<char> = "lwcm"
        .chars()
        .filter(|&letter| arguments.has(letter))
        .collect();
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
    let line: Vec<String> = counts
        .iter()
        .map(|count| format!("{count:width$}"))
        .collect();
    let mut line = line.join(" ").into_bytes();
    if let Some(name) = arguments.operand(0) {
        line.push(b' ');
        line.extend_from_slice(name);
    }
    line.push(b'\n');
    shell.out(&line)?;
    Ok(status)
}

const UNIQ: Spec = Spec {
    short: "cdui",
    long: &[
        ("count", 'c'),
        ("repeated", 'd'),
        ("unique", 'u'),
        ("ignore-case", 'i'),
    ],
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
                let start = if start.is_empty() {
                    1
                } else {
                    start.parse().ok()?
                };
                let end = if end.is_empty() {
                    usize::MAX
                } else {
                    end.parse().ok()?
                };
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
    let list = arguments
        .value('f')
        .or(arguments.value('c'))
        .or(arguments.value('b'));
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
        || {
            if by_field {
                vec![delimiter]
            } else {
                Vec::new()
            }
        },
        <[u8]>::to_vec,
    );
    let chosen = |index: usize| {
        let number = index.saturating_add(1);
        ranges
            .iter()
            .any(|&(start, end)| (start..=end).contains(&number))
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
