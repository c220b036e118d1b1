//! `xargs`, `env`, `nice` and others that run a command.

use super::arguments::{self, Spec};
use crate::shell::Shell;
use crate::stop::Run;

const XARGS: Spec = Spec {
    short: "0rtn:L:l?I:i?d:s:P:x",
    long: &[
        ("null", '0'),
        ("no-run-if-empty", 'r'),
        ("max-args=", 'n'),
        ("max-lines?", 'L'),
        ("replace?", 'I'),
        ("delimiter=", 'd'),
        ("max-procs=", 'P'),
        ("max-chars=", 's'),
        ("show-limits", 'S'),
    ],
    permute: false,
};

/// Longest command line: Linux's 2 MiB less an ordinary environment and the reserve that POSIX asks for.
const LONGEST: usize = 2_088_945;

pub(crate) fn xargs(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &XARGS)?;
    if "lL".chars().any(|letter| arguments.has(letter)) {
        return shell.usage(b"xargs", "-L is not interpreted");
    }
    if arguments.has('S') {
        let text = format!("Maximum length of command we could actually use: {LONGEST}\n");
        shell.write_fd(2, text.as_bytes())?;
    }
    let longest = match arguments.value('s') {
        None => LONGEST,
        Some(text) => match std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
        {
            Some(longest) => longest,
            None => return shell.usage(b"xargs", "the length is not interpreted"),
        },
    };
    let replaced: Option<Vec<u8>> = if arguments.has('I') || arguments.has('i') {
        let text = arguments.value('I').or(arguments.value('i'));
        Some(text.unwrap_or(b"{}").to_vec())
    } else {
        None
    };
    let text = shell.read_all()?;
    let items: Vec<Vec<u8>> = if arguments.has('0') || arguments.has('d') {
        let delimiter = match arguments.value('d') {
            None => 0,
            Some(b"\\n") => b'\n',
            Some(b"\\0") => 0,
            Some([byte]) => *byte,
            Some(_) => return shell.usage(b"xargs", "the delimiter is not interpreted"),
        };
        let mut items: Vec<Vec<u8>> = text
            .split(|&byte| byte == delimiter)
            .map(<[u8]>::to_vec)
            .collect();
        if items.last().is_some_and(Vec::is_empty) {
            items.pop();
        }
        items
    } else if replaced.is_some() {
        let mut items = Vec::new();
        for line in super::text::lines(&text) {
            match words_of(line.trim_ascii_start(), false) {
                Some(mut words) => items.append(&mut words),
                None => return shell.usage(b"xargs", "a quote is not closed"),
            }
        }
        items
    } else {
        match words_of(&text, true) {
            Some(words) => words,
            None => return shell.usage(b"xargs", "a quote is not closed"),
        }
    };
    let mut command = arguments.operands.clone();
    if command.is_empty() {
        command.push(b"echo".to_vec());
    }
    let mut calls: Vec<Vec<Vec<u8>>> = Vec::new();
    if let Some(mark) = replaced {
        if mark.is_empty() {
            return shell.usage(b"xargs", "the mark is empty");
        }
        for item in &items {
            calls.push(
                command
                    .iter()
                    .map(|word| replace(word, &mark, item))
                    .collect(),
            );
        }
    } else {
        let most = match arguments.value('n') {
            None => usize::MAX,
            Some(text) => match std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse::<usize>().ok())
            {
                Some(most) if most > 0 => most,
                _ => return shell.usage(b"xargs", "the number is not interpreted"),
            },
        };
        if items.is_empty() {
            if !arguments.has('r') {
                calls.push(command);
            }
        } else {
            let own: usize = command
                .iter()
                .map(|word| word.len().saturating_add(1))
                .sum();
            let mut call = command.clone();
            let mut length = own;
            for item in &items {
                let more = item.len().saturating_add(1);
                let full = call.len().saturating_sub(command.len()) >= most
                    || length.saturating_add(more) > longest;
                if full && call.len() > command.len() {
                    calls.push(std::mem::replace(&mut call, command.clone()));
                    length = own;
                }
                length = length.saturating_add(more);
                call.push(item.clone());
            }
            calls.push(call);
        }
    }
    let mut status = 0;
    for call in calls {
        shell.files.budget.step(10)?;
        let ended = shell.subshell(|shell| {
            shell.environment.streams.insert(
                0,
                crate::shell::streams::fd(crate::shell::streams::Stream::Null),
            );
            external(shell, &call)
        })?;
        match ended {
            0 => {}
            255 => return Ok(124),
            126 | 127 => return Ok(ended),
            _ => status = 123,
        }
    }
    Ok(status)
}

/// Runs a command that is not looked up among the shell's builtins and functions.
fn external(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    shell.execute(words)
}

fn replace(word: &[u8], mark: &[u8], item: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.windows(mark.len()).position(|part| part == mark) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(item);
        rest = rest
            .get(at.saturating_add(mark.len())..)
            .unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// Words with quotes and backslashes resolved; `None` for an open quote. Without `blanks`, only newlines part them.
fn words_of(text: &[u8], blanks: bool) -> Option<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut current: Option<Vec<u8>> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\'' | b'"' => {
                let word = current.get_or_insert_default();
                loop {
                    match bytes.next()? {
                        b'\n' => return None,
                        inner if inner == byte => break,
                        inner => word.push(inner),
                    }
                }
            }
            b'\\' => current.get_or_insert_default().push(bytes.next()?),
            b'\n' => out.extend(current.take()),
            b' ' | b'\t' if blanks => out.extend(current.take()),
            byte => current.get_or_insert_default().push(byte),
        }
    }
    out.extend(current);
    Some(out)
}

/// `env [-i] [NAME=VALUE]... COMMAND`.
pub(crate) fn env(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    let rest_words = rest.to_vec();
    shell.subshell(|shell| {
        rest = &rest_words;
        while let Some(first) = rest.first() {
            match first.as_slice() {
                b"-u" => {
                    if let Some(name) = rest.get(1) {
                        shell.environment.variables.unset(name);
                    }
                    rest = rest.get(2..).unwrap_or_default();
                }
                b"--" => rest = rest.get(1..).unwrap_or_default(),
                _ if first.starts_with(b"-") => {
                    return shell.usage(b"env", "the option is not interpreted");
                }
                _ => match first.iter().position(|&byte| byte == b'=') {
                    Some(at) if at > 0 => {
                        let (name, value) = first.split_at(at);
                        let value = value.get(1..).unwrap_or_default();
                        shell.environment.variables.set_exported(name, value);
                        rest = rest.get(1..).unwrap_or_default();
                    }
                    _ => break,
                },
            }
        }
        if rest.is_empty() {
            return shell.usage(b"env", "printing the environment is not interpreted");
        }
        let rest = rest.to_vec();
        external(shell, &rest)
    })
}

/// `nice`, `ionice`, `nohup`: the rest is run as it is.
pub(crate) fn nice(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    while let Some(option) = rest.first().filter(|word| word.starts_with(b"-")) {
        let takes = matches!(option.as_slice(), b"-n" | b"-c");
        rest = rest.get(if takes { 2 } else { 1 }..).unwrap_or_default();
    }
    let rest = rest.to_vec();
    if rest.is_empty() {
        return shell.usage(b"nice", "the command is missing");
    }
    shell.subshell(|shell| external(shell, &rest))
}
