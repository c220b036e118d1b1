//! `grep`, `egrep` and `fgrep`.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::arguments::{self, Spec};
use super::text::lines;
use crate::regex::{Regex, Syntax};
use crate::shell::Shell;
use crate::stop::Run;

const GREP: Spec = Spec {
    short: "EFGPivcqlLnsxwhHoe:f:m:A:B:C:rRaz",
    long: &[
        ("extended-regexp", 'E'),
        ("fixed-strings", 'F'),
        ("ignore-case", 'i'),
        ("invert-match", 'v'),
        ("count", 'c'),
        ("quiet", 'q'),
        ("silent", 'q'),
        ("files-with-matches", 'l'),
        ("files-without-match", 'L'),
        ("line-number", 'n'),
        ("no-messages", 's'),
        ("line-regexp", 'x'),
        ("word-regexp", 'w'),
        ("no-filename", 'h'),
        ("with-filename", 'H'),
        ("only-matching", 'o'),
        ("regexp=", 'e'),
        ("file=", 'f'),
        ("max-count=", 'm'),
        ("text", 'a'),
        ("recursive", 'r'),
        ("line-buffered", 'b'),
        ("color?", 'k'),
        ("colour?", 'k'),
    ],
    permute: true,
};

/// Patterns and how a line must match them.
struct Matcher {
    regexes: Vec<Regex>,
    whole_line: bool,
    word: bool,
    invert: bool,
}

impl Matcher {
    /// The matching part of `line` at `from` or later, whatever `-v` says.
    fn part(&self, shell: &mut Shell<'_>, line: &[u8], from: usize) -> Run<Option<(usize, usize)>> {
        let mut best: Option<(usize, usize)> = None;
        for regex in &self.regexes {
            let mut start = from;
            while let Some(captures) = regex.find(line, start, &mut shell.files.budget)? {
                let Some(Some((begin, end))) = captures.first().copied() else {
                    break;
                };
                let fits = if self.whole_line {
                    begin == 0 && end == line.len()
                } else {
                    !self.word || is_word(line, begin, end)
                };
                if fits {
                    let better = best.is_none_or(|(first, last)| {
                        begin < first || (begin == first && end > last)
                    });
                    if better {
                        best = Some((begin, end));
                    }
                    break;
                }
                if self.whole_line && begin > 0 {
                    break;
                }
                start = begin.saturating_add(1);
                if start > line.len() || self.whole_line {
                    break;
                }
            }
        }
        Ok(best)
    }

    fn selects(&self, shell: &mut Shell<'_>, line: &[u8]) -> Run<bool> {
        Ok(self.part(shell, line, 0)?.is_some() != self.invert)
    }
}

fn is_word(line: &[u8], begin: usize, end: usize) -> bool {
    let word =
        |byte: Option<&u8>| byte.is_some_and(|&byte| byte == b'_' || byte.is_ascii_alphanumeric());
    let before = begin.checked_sub(1).and_then(|before| line.get(before));
    !word(before) && !word(line.get(end))
}

pub(crate) fn grep(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &GREP)?;
    let name = words.first().cloned().unwrap_or_default();
    if "PABCz".chars().any(|letter| arguments.has(letter)) {
        return shell.usage(&name, "-A, -B, -C, -P and -z are not interpreted");
    }
    let kind = arguments.last_of("EFG").unwrap_or(match name.as_slice() {
        b"egrep" => 'E',
        b"fgrep" => 'F',
        _ => 'G',
    });
    let mut operands = arguments.operands.clone();
    let mut patterns: Vec<Vec<u8>> = Vec::new();
    for text in arguments.values('e') {
        patterns.extend(text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec));
    }
    for file in arguments.values('f') {
        let text = if file == b"-" {
            shell.read_all()?
        } else {
            match shell.files.read(file)? {
                Ok(text) => text,
                Err(errno) => {
                    shell.complain(&name, errno.to_string())?;
                    return Ok(2);
                }
            }
        };
        patterns.extend(lines(&text).map(<[u8]>::to_vec));
    }
    if !arguments.has('e') && !arguments.has('f') {
        if operands.is_empty() {
            shell.complain(&name, "usage: grep [OPTION]... PATTERNS [FILE]...")?;
            return Ok(2);
        }
        let text = operands.remove(0);
        patterns.extend(text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec));
    }
    let mut regexes = Vec::new();
    let whole_line = arguments.has('x');
    for pattern in &patterns {
        let ignore = arguments.has('i');
        let regex = match kind {
            'F' => Ok(Regex::fixed(pattern, ignore)),
            kind => {
                let syntax = if kind == 'E' {
                    Syntax::Extended
                } else {
                    Syntax::Basic
                };
                // The whole line is matched by anchors, so that alternatives are tried as they should be.
                let anchored = match (whole_line, syntax) {
                    (false, _) => pattern.clone(),
                    (true, Syntax::Basic) => [b"^\\(", &pattern[..], b"\\)$"].concat(),
                    (true, Syntax::Extended) => [b"^(", &pattern[..], b")$"].concat(),
                };
                if whole_line
                    && pattern
                        .windows(2)
                        .any(|two| matches!(two, [b'\\', b'1'..=b'9']))
                {
                    return shell.usage(&name, "-x with back references is not interpreted");
                }
                Regex::new(&anchored, syntax, ignore, false)
            }
        };
        match regex {
            Ok(regex) => regexes.push(regex),
            Err(why) => {
                shell.complain(&name, why)?;
                return Ok(2);
            }
        }
    }
    let matcher = Matcher {
        regexes,
        whole_line,
        word: arguments.has('w'),
        invert: arguments.has('v'),
    };
    let recursive = arguments.has('r') || arguments.has('R');
    let mut files: Vec<Option<Vec<u8>>> = Vec::new();
    let mut several = operands.len() > 1;
    if recursive {
        several = true;
        let tops = if operands.is_empty() {
            vec![b".".to_vec()]
        } else {
            operands
        };
        for top in tops {
            for path in super::mode::tree(shell, &top, true)? {
                let follow = if arguments.has('R') || path == top {
                    Follow::Links
                } else {
                    Follow::No
                };
                let found = shell.files.look(&path, follow)?;
                if found.is_none_or(|found| matches!(found.node, DraftNode::File(_))) {
                    files.push(Some(path));
                }
            }
        }
    } else if operands.is_empty() {
        files.push(None);
    } else {
        files = operands.into_iter().map(Some).collect();
    }
    let named = arguments.has('H') || (several && !arguments.has('h'));
    let most: Option<u64> = arguments
        .value('m')
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse().ok());
    let (mut selected, mut failed) = (false, false);
    for file in files {
        let label = file.clone().unwrap_or_else(|| b"(standard input)".to_vec());
        let text = match &file {
            None => shell.read_all()?,
            Some(path) if path == b"-" => shell.read_all()?,
            Some(path) => match shell.files.read(path)? {
                Ok(text) => text,
                Err(errno) => {
                    if !arguments.has('s') {
                        let what = [&path[..], b": ", errno.to_string().as_bytes()].concat();
                        shell.complain(&name, what)?;
                    }
                    failed = true;
                    continue;
                }
            },
        };
        if text.contains(&0)
            && !arguments.has('a')
            && !arguments.has('q')
            && !arguments.has('l')
            && !arguments.has('c')
        {
            return shell.usage(&name, "prints from a binary file");
        }
        let mut count = 0_u64;
        let mut out = Vec::new();
        for (index, line) in lines(&text).enumerate() {
            if most.is_some_and(|most| count >= most) {
                break;
            }
            shell.files.budget.step(1)?;
            if !matcher.selects(shell, line)? {
                continue;
            }
            count = count.saturating_add(1);
            if "qlLc".chars().any(|letter| arguments.has(letter)) {
                if arguments.has('c') {
                    continue;
                }
                break;
            }
            let mut prefix = Vec::new();
            if named {
                prefix.extend_from_slice(&label);
                prefix.push(b':');
            }
            if arguments.has('n') {
                prefix.extend_from_slice(index.saturating_add(1).to_string().as_bytes());
                prefix.push(b':');
            }
            if !arguments.has('o') {
                out.extend_from_slice(&prefix);
                out.extend_from_slice(line);
                out.push(b'\n');
                continue;
            }
            if matcher.invert {
                continue;
            }
            let mut from = 0_usize;
            while let Some((begin, end)) = matcher.part(shell, line, from)? {
                if end > begin {
                    out.extend_from_slice(&prefix);
                    out.extend_from_slice(line.get(begin..end).unwrap_or_default());
                    out.push(b'\n');
                }
                from = end.max(begin.saturating_add(1));
                if from > line.len() {
                    break;
                }
            }
        }
        selected |= (count > 0) != arguments.has('L');
        if arguments.has('q') {
            if selected {
                return Ok(0);
            }
            continue;
        }
        if arguments.has('l') || arguments.has('L') {
            if (count > 0) == arguments.has('l') {
                out.extend_from_slice(&label);
                out.push(b'\n');
            }
        } else if arguments.has('c') {
            if named {
                out.extend_from_slice(&label);
                out.push(b':');
            }
            out.extend_from_slice(count.to_string().as_bytes());
            out.push(b'\n');
        }
        shell.out(&out)?;
    }
    Ok(if failed { 2 } else { i32::from(!selected) })
}
