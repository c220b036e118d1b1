//! `sort`.

use std::cmp::Ordering;

use super::arguments::{self, Arguments, Spec};
use super::text::{inputs, lines};
use crate::shell::Shell;
use crate::stop::Run;

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
    let plain = |line: &Vec<u8>| {
        line.iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.')
    };
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
        Some((start, end)) => (
            start.parse::<usize>().ok()?,
            Some(end.parse::<usize>().ok()?),
        ),
        None => (digits.parse::<usize>().ok()?, None),
    };
    let own = !letters.is_empty();
    if !letters.chars().all(|letter| "nr".contains(letter)) {
        return None;
    }
    Some(Key {
        start: start.checked_sub(1)?,
        end,
        numeric: if own {
            letters.contains('n')
        } else {
            arguments.has('n')
        },
        reverse: if own {
            letters.contains('r')
        } else {
            arguments.has('r')
        },
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
    let end = rest
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(rest.len());
    let (integer, after) = rest.split_at(end.min(30));
    let value: i128 = std::str::from_utf8(integer)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let fraction: Vec<u8> = after
        .strip_prefix(b".")
        .map(|after| {
            after
                .iter()
                .copied()
                .take_while(u8::is_ascii_digit)
                .collect()
        })
        .unwrap_or_default();
    if negative {
        (
            0,
            value.saturating_neg(),
            fraction.iter().map(|byte| !byte).collect(),
        )
    } else {
        (0, value, fraction)
    }
}
