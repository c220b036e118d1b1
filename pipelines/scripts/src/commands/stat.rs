//! `stat`, `ls` and `expr`.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::accounts;
use super::arguments::{self, Spec};
use super::date::Moment;
use crate::regex::{Regex, Syntax};
use crate::shell::Shell;
use crate::stop::Run;

const STAT: Spec = Spec {
    short: "Lc:f",
    long: &[("dereference", 'L'), ("format=", 'c'), ("printf=", 'p')],
    permute: true,
};

pub(crate) fn stat(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &STAT)?;
    let Some(format) = arguments.value('c').map(<[u8]>::to_vec) else {
        return shell.usage(b"stat", "only -c FORMAT is interpreted");
    };
    let follow = if arguments.has('L') {
        Follow::Links
    } else {
        Follow::No
    };
    let mut status = 0;
    for path in &arguments.operands {
        let found = match shell.files.find(path, follow)? {
            Ok(found) => found,
            Err(errno) => {
                let text = format!("cannot statx '{}': {errno}", String::from_utf8_lossy(path));
                shell.complain(b"stat", text)?;
                status = 1;
                continue;
            }
        };
        let attributes = &found.attributes;
        let mut out = Vec::new();
        let mut bytes = format.iter().copied();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                out.push(byte);
                continue;
            }
            match bytes.next() {
                Some(b'a') => out.extend_from_slice(format!("{:o}", attributes.mode).as_bytes()),
                Some(b'u') => out.extend_from_slice(attributes.uid.to_string().as_bytes()),
                Some(b'g') => out.extend_from_slice(attributes.gid.to_string().as_bytes()),
                Some(b'U') => {
                    let name = accounts::user_name(shell, attributes.uid)?;
                    out.extend_from_slice(&name.unwrap_or_else(|| b"UNKNOWN".to_vec()));
                }
                Some(b'G') => {
                    let name = accounts::group_name(shell, attributes.gid)?;
                    out.extend_from_slice(&name.unwrap_or_else(|| b"UNKNOWN".to_vec()));
                }
                Some(b'n') => out.extend_from_slice(path),
                Some(b's') => match &found.node {
                    DraftNode::File(content) => {
                        out.extend_from_slice(content.size().to_string().as_bytes());
                    }
                    _ => return shell.usage(b"stat", "%s of what is no file"),
                },
                Some(b'Y') => {
                    out.extend_from_slice(attributes.mtime.seconds.to_string().as_bytes());
                }
                Some(b'%') => out.push(b'%'),
                _ => return shell.usage(b"stat", "the format is not interpreted"),
            }
        }
        out.push(b'\n');
        shell.out(&out)?;
    }
    Ok(status)
}

const LS: Spec = Spec {
    short: "1aAdULln",
    long: &[("all", 'a'), ("almost-all", 'A'), ("directory", 'd')],
    permute: true,
};

pub(crate) fn ls(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &LS)?;
    let operands = if arguments.operands.is_empty() {
        vec![b".".to_vec()]
    } else {
        let mut operands = arguments.operands.clone();
        operands.sort();
        operands
    };
    if arguments.has('l') || arguments.has('n') {
        return long_list(shell, &operands, arguments.has('n'));
    }
    let mut status = 0;
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for path in &operands {
        let mut found = shell.files.look(path, Follow::Links)?;
        if found.is_none() || arguments.has('d') {
            found = shell.files.look(path, Follow::No)?;
        }
        match found {
            Some(found) if found.node == DraftNode::Directory && !arguments.has('d') => {
                folders.push(path.clone());
            }
            Some(_) => files.push(path.clone()),
            None => {
                let text = format!(
                    "cannot access '{}': No such file or directory",
                    String::from_utf8_lossy(path)
                );
                shell.complain(b"ls", text)?;
                status = 2;
            }
        }
    }
    let mut out = Vec::new();
    for path in &files {
        out.extend_from_slice(path);
        out.push(b'\n');
    }
    let titled = operands.len() > 1;
    for (index, path) in folders.iter().enumerate() {
        if titled {
            if index > 0 || !files.is_empty() {
                out.push(b'\n');
            }
            out.extend_from_slice(path);
            out.extend_from_slice(b":\n");
        }
        let names = shell.files.list(path)?.unwrap_or_default();
        if arguments.has('a') {
            out.extend_from_slice(b".\n..\n");
        }
        for name in names {
            if name.starts_with(b".") && !arguments.has('a') && !arguments.has('A') {
                continue;
            }
            out.extend_from_slice(&name);
            out.push(b'\n');
        }
    }
    shell.out(&out)?;
    Ok(status)
}

/// `ls -l` of files, times in UTC.
fn long_list(shell: &mut Shell<'_>, operands: &[Vec<u8>], numeric: bool) -> Run<i32> {
    let mut status = 0;
    for path in operands {
        let Some(found) = shell.files.look(path, Follow::No)? else {
            let text = format!(
                "cannot access '{}': No such file or directory",
                String::from_utf8_lossy(path)
            );
            shell.complain(b"ls", text)?;
            status = 2;
            continue;
        };
        let DraftNode::File(content) = &found.node else {
            return shell.usage(b"ls", "-l is interpreted for regular files only");
        };
        let attributes = &found.attributes;
        if attributes.mode & 0o7000 != 0 {
            return shell.usage(b"ls", "-l of files with special bits is not interpreted");
        }
        let mut line = String::from("-");
        for shift in [6, 3, 0] {
            let bits = attributes.mode >> shift;
            line.push(if bits & 4 != 0 { 'r' } else { '-' });
            line.push(if bits & 2 != 0 { 'w' } else { '-' });
            line.push(if bits & 1 != 0 { 'x' } else { '-' });
        }
        let (mut user, mut group) = (attributes.uid.to_string(), attributes.gid.to_string());
        if !numeric {
            if let Some(name) = accounts::user_name(shell, attributes.uid)? {
                user = String::from_utf8_lossy(&name).into_owned();
            }
            if let Some(name) = accounts::group_name(shell, attributes.gid)? {
                group = String::from_utf8_lossy(&name).into_owned();
            }
        }
        let moment = Moment::new(attributes.mtime.seconds);
        let age = shell
            .files
            .now
            .seconds
            .saturating_sub(attributes.mtime.seconds);
        // GNU's shows the hour of what changed within half a mean year.
        let recent = (0..=15_778_476).contains(&age);
        let when = if recent {
            format!("{:02}:{:02}", moment.hour, moment.minute)
        } else {
            format!("{:5}", moment.year)
        };
        line.push_str(&format!(
            " 1 {user} {group} {} {} {:2} {when} ",
            content.size(),
            moment.month_name(),
            moment.day
        ));
        let mut line = line.into_bytes();
        line.extend_from_slice(path);
        line.push(b'\n');
        shell.out(&line)?;
    }
    Ok(status)
}

/// Deepest nesting of an expression of `expr`.
const MAX_DEPTH: u32 = 30;

struct Expression<'s, 'a, 'w> {
    shell: &'s mut Shell<'a>,
    words: &'w [Vec<u8>],
    at: usize,
    depth: u32,
}

pub(crate) fn expr(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    if rest.first().is_some_and(|first| first == b"--") {
        rest = rest.get(1..).unwrap_or_default();
    }
    let mut expression = Expression {
        shell,
        words: rest,
        at: 0,
        depth: 0,
    };
    let value = expression.binary(0)?;
    let complete = expression.at == rest.len() && !rest.is_empty();
    match value {
        Some(value) if complete => {
            shell.out(&[&value[..], b"\n"].concat())?;
            Ok(i32::from(is_null(&value)))
        }
        _ => {
            shell.complain(b"expr", "syntax error")?;
            Ok(2)
        }
    }
}

fn is_null(value: &[u8]) -> bool {
    value.is_empty() || integer(value) == Some(0)
}

fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.starts_with('+'))?
        .parse()
        .ok()
}

const LEVELS: &[&[&[u8]]] = &[
    &[b"|"],
    &[b"&"],
    &[b"<", b"<=", b"=", b"==", b"!=", b">=", b">"],
    &[b"+", b"-"],
    &[b"*", b"/", b"%"],
    &[b":"],
];

impl Expression<'_, '_, '_> {
    fn binary(&mut self, level: usize) -> Run<Option<Vec<u8>>> {
        let Some(operators) = LEVELS.get(level) else {
            return self.primary();
        };
        let next = level.saturating_add(1);
        let Some(mut left) = self.binary(next)? else {
            return Ok(None);
        };
        while let Some(operator) = self
            .words
            .get(self.at)
            .filter(|word| operators.contains(&word.as_slice()))
            .cloned()
        {
            self.at = self.at.saturating_add(1);
            let Some(right) = self.binary(next)? else {
                return Ok(None);
            };
            match self.apply(&operator, &left, &right)? {
                Some(value) => left = value,
                None => return Ok(None),
            }
        }
        Ok(Some(left))
    }

    fn apply(&mut self, operator: &[u8], left: &[u8], right: &[u8]) -> Run<Option<Vec<u8>>> {
        let truth = |answer: bool| Some(if answer { b"1".to_vec() } else { b"0".to_vec() });
        Ok(match operator {
            b"|" => Some(if is_null(left) {
                if is_null(right) {
                    b"0".to_vec()
                } else {
                    right.to_vec()
                }
            } else {
                left.to_vec()
            }),
            b"&" => Some(if is_null(left) || is_null(right) {
                b"0".to_vec()
            } else {
                left.to_vec()
            }),
            b"<" | b"<=" | b"=" | b"==" | b"!=" | b">=" | b">" => {
                let order = match (integer(left), integer(right)) {
                    (Some(left), Some(right)) => left.cmp(&right),
                    _ => left.cmp(right),
                };
                truth(match operator {
                    b"<" => order.is_lt(),
                    b"<=" => order.is_le(),
                    b"!=" => order.is_ne(),
                    b">=" => order.is_ge(),
                    b">" => order.is_gt(),
                    _ => order.is_eq(),
                })
            }
            b":" => return self.matched(left, right).map(Some),
            _ => match (integer(left), integer(right)) {
                (Some(left), Some(right)) => match operator {
                    b"+" => left.checked_add(right),
                    b"-" => left.checked_sub(right),
                    b"*" => left.checked_mul(right),
                    b"/" => left.checked_div(right),
                    _ => left.checked_rem(right),
                }
                .map(|value| value.to_string().into_bytes()),
                _ => None,
            },
        })
    }

    fn matched(&mut self, text: &[u8], pattern: &[u8]) -> Run<Vec<u8>> {
        let anchored = [b"^", pattern.strip_prefix(b"^").unwrap_or(pattern)].concat();
        let regex = match Regex::new(&anchored, Syntax::Basic, false, false) {
            Ok(regex) => regex,
            Err(why) => return self.shell.usage(b"expr", why),
        };
        let found = regex.find(text, 0, &mut self.shell.files.budget)?;
        let grouped = regex.groups() > 1;
        Ok(match found {
            None if grouped => Vec::new(),
            None => b"0".to_vec(),
            Some(captures) if grouped => captures
                .get(1)
                .copied()
                .flatten()
                .and_then(|(begin, end)| text.get(begin..end))
                .unwrap_or_default()
                .to_vec(),
            Some(captures) => {
                let end = captures
                    .first()
                    .copied()
                    .flatten()
                    .map_or(0, |(_, end)| end);
                end.to_string().into_bytes()
            }
        })
    }

    fn primary(&mut self) -> Run<Option<Vec<u8>>> {
        let Some(word) = self.words.get(self.at).cloned() else {
            return Ok(None);
        };
        self.at = self.at.saturating_add(1);
        match word.as_slice() {
            b"(" => {
                self.depth = self.depth.saturating_add(1);
                if self.depth > MAX_DEPTH {
                    return Ok(None);
                }
                let value = self.binary(0)?;
                if self.words.get(self.at).is_none_or(|word| word != b")") {
                    return Ok(None);
                }
                self.at = self.at.saturating_add(1);
                self.depth = self.depth.saturating_sub(1);
                Ok(value)
            }
            b"length" if self.words.get(self.at).is_some() => {
                let text = self.words.get(self.at).map_or(0, Vec::len);
                self.at = self.at.saturating_add(1);
                Ok(Some(text.to_string().into_bytes()))
            }
            b"match" | b"substr" | b"index" if self.words.len() > self.at => self
                .shell
                .usage(b"expr", "match, substr and index are not interpreted"),
            _ => Ok(Some(word)),
        }
    }
}
