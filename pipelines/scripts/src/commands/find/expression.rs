//! The expression of `find`.

use dormouse_filesystem::Follow;

use super::{Plan, Test};
use crate::commands::{accounts, mode};
use crate::shell::Shell;
use crate::shell::pattern::Pattern;
use crate::stop::Run;

/// Deepest nesting of an expression.
const MAX_DEPTH: u32 = 30;

pub(super) struct Parser<'w> {
    pub(super) words: &'w [Vec<u8>],
    pub(super) at: usize,
    pub(super) depth: u32,
    pub(super) plan: Plan,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&[u8]> {
        self.words.get(self.at).map(Vec::as_slice)
    }

    fn operand(&mut self, shell: &Shell<'_>) -> Run<Vec<u8>> {
        let word = self.words.get(self.at).cloned();
        self.at = self.at.saturating_add(1);
        match word {
            Some(word) => Ok(word),
            None => shell.usage(b"find", "an argument is missing"),
        }
    }

    pub(super) fn or(&mut self, shell: &mut Shell<'_>) -> Run<Test> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return shell.usage(b"find", "the expression nests too deep");
        }
        let mut tests = vec![self.and(shell)?];
        while matches!(self.peek(), Some(b"-o" | b"-or")) {
            self.at = self.at.saturating_add(1);
            tests.push(self.and(shell)?);
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(Test::Or(tests))
    }

    fn and(&mut self, shell: &mut Shell<'_>) -> Run<Test> {
        let mut tests = Vec::new();
        loop {
            match self.peek() {
                None | Some(b"-o" | b"-or" | b")") => break,
                Some(b"-a" | b"-and") => self.at = self.at.saturating_add(1),
                Some(_) => tests.push(self.primary(shell)?),
            }
        }
        if tests.is_empty() {
            return shell.usage(b"find", "the expression is not interpreted");
        }
        Ok(Test::And(tests))
    }

    fn number(&mut self, shell: &Shell<'_>) -> Run<usize> {
        let text = self.operand(shell)?;
        match std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.parse().ok())
        {
            Some(number) => Ok(number),
            None => shell.usage(b"find", "a number is missing"),
        }
    }

    fn primary(&mut self, shell: &mut Shell<'_>) -> Run<Test> {
        let word = self.operand(shell)?;
        Ok(match word.as_slice() {
            b"!" | b"-not" => {
                self.depth = self.depth.saturating_add(1);
                if self.depth > MAX_DEPTH {
                    return shell.usage(b"find", "the expression nests too deep");
                }
                let inner = self.primary(shell)?;
                self.depth = self.depth.saturating_sub(1);
                Test::Not(Box::new(inner))
            }
            b"(" => {
                let inner = self.or(shell)?;
                if self.peek() != Some(b")") {
                    return shell.usage(b"find", "a parenthesis is missing");
                }
                self.at = self.at.saturating_add(1);
                inner
            }
            b"-true" | b"-follow" | b"-xdev" | b"-mount" | b"-noleaf" | b"-ignore_readdir_race" => {
                Test::True
            }
            b"-false" => Test::Not(Box::new(Test::True)),
            b"-depth" => {
                self.plan.depth_first = true;
                Test::True
            }
            b"-maxdepth" => {
                self.plan.most_depth = Some(self.number(shell)?);
                Test::True
            }
            b"-mindepth" => {
                self.plan.least_depth = self.number(shell)?;
                Test::True
            }
            b"-type" => {
                let mut letters = self.operand(shell)?;
                letters.retain(|&byte| byte != b',');
                Test::Type(letters)
            }
            b"-name" => Test::Name(Pattern::plain(&self.operand(shell)?), false),
            b"-iname" => {
                let text = self.operand(shell)?.to_ascii_lowercase();
                Test::Name(Pattern::plain(&text), true)
            }
            b"-path" | b"-wholename" => Test::Path(Pattern::plain(&self.operand(shell)?), false),
            b"-ipath" => {
                let text = self.operand(shell)?.to_ascii_lowercase();
                Test::Path(Pattern::plain(&text), true)
            }
            b"-lname" => Test::LinkName(Pattern::plain(&self.operand(shell)?)),
            b"-user" | b"-uid" => {
                let text = self.operand(shell)?;
                match accounts::user(shell, &text)? {
                    Some((uid, _)) => Test::User(uid),
                    None => return shell.usage(b"find", "the user is not known"),
                }
            }
            b"-group" | b"-gid" => {
                let text = self.operand(shell)?;
                match accounts::group(shell, &text)? {
                    Some(gid) => Test::Group(gid),
                    None => return shell.usage(b"find", "the group is not known"),
                }
            }
            b"-nouser" => Test::NoUser,
            b"-nogroup" => Test::NoGroup,
            b"-empty" => Test::Empty,
            b"-perm" => {
                let text = self.operand(shell)?;
                let (kind, bits) = match text.split_first() {
                    Some((b'-', rest)) => ('-', rest),
                    Some((b'/', rest)) => ('/', rest),
                    _ => ('=', text.as_slice()),
                };
                match mode::apply(bits, 0, false, 0) {
                    Some(bits) => Test::Permission(kind, bits),
                    None => return shell.usage(b"find", "the mode of -perm is not interpreted"),
                }
            }
            b"-size" => {
                let text = self.operand(shell)?;
                let text = String::from_utf8_lossy(&text).into_owned();
                let (order, text) = match text.split_at_checked(1) {
                    Some(("+", rest)) => (std::cmp::Ordering::Greater, rest),
                    Some(("-", rest)) => (std::cmp::Ordering::Less, rest),
                    _ => (std::cmp::Ordering::Equal, text.as_str()),
                };
                let (digits, unit) = match text.chars().last() {
                    Some('c') => (text.trim_end_matches('c'), 1),
                    Some('k') => (text.trim_end_matches('k'), 1024),
                    Some('M') => (text.trim_end_matches('M'), 1 << 20),
                    _ => (text.trim_end_matches('b'), 512),
                };
                match digits.parse() {
                    Ok(count) => Test::Size(order, count, unit),
                    Err(_) => return shell.usage(b"find", "the size is not interpreted"),
                }
            }
            b"-newer" => {
                let path = self.operand(shell)?;
                match shell.files.look(&path, Follow::Links)? {
                    Some(found) => Test::Newer(found.attributes.mtime),
                    None => return shell.usage(b"find", "the file of -newer is missing"),
                }
            }
            b"-print" => {
                self.plan.acts = true;
                Test::Print
            }
            b"-print0" => {
                self.plan.acts = true;
                Test::Print0
            }
            b"-printf" => {
                self.plan.acts = true;
                Test::PrintFormat(self.operand(shell)?)
            }
            b"-delete" => {
                self.plan.acts = true;
                self.plan.depth_first = true;
                Test::Delete
            }
            b"-prune" => Test::Prune,
            b"-quit" => Test::Quit,
            b"-exec" | b"-execdir" | b"-ok" => {
                if word != b"-exec" {
                    return shell.usage(b"find", "-execdir and -ok are not interpreted");
                }
                self.plan.acts = true;
                let mut command = Vec::new();
                loop {
                    let word = self.operand(shell)?;
                    if word == b";" {
                        return Ok(Test::Exec(command));
                    }
                    if word == b"+" && command.last().is_some_and(|last: &Vec<u8>| last == b"{}") {
                        self.plan.batches.push((command, Vec::new()));
                        return Ok(Test::ExecAll(self.plan.batches.len().saturating_sub(1)));
                    }
                    command.push(word);
                }
            }
            other => {
                return shell.usage(
                    b"find",
                    format!("{} is not interpreted", String::from_utf8_lossy(other)),
                );
            }
        })
    }
}
