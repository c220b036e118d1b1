//! `find`.

use dormouse_filesystem::{Follow, NodeKind};
use dormouse_overlay::{DraftNode, Drafted};

use super::{accounts, name};
use crate::shell::Shell;
use crate::shell::pattern::Pattern;
use crate::stop::Run;

/// Deepest nesting of an expression.
const MAX_DEPTH: u32 = 30;

enum Test {
    True,
    Type(Vec<u8>),
    Name(Pattern, bool),
    Path(Pattern, bool),
    LinkName(Pattern),
    User(u32),
    Group(u32),
    NoUser,
    NoGroup,
    /// Which bits: exactly, all of, any of.
    Permission(char, u16),
    Empty,
    Size(std::cmp::Ordering, u64, u64),
    Newer(dormouse_filesystem::Time),
    Print,
    Print0,
    PrintFormat(Vec<u8>),
    Delete,
    Prune,
    Quit,
    Exec(Vec<Vec<u8>>),
    ExecAll(usize),
    Not(Box<Test>),
    And(Vec<Test>),
    Or(Vec<Test>),
}

#[derive(Default)]
struct Plan {
    least_depth: usize,
    most_depth: Option<usize>,
    depth_first: bool,
    /// Commands of `-exec ... +`, and what they were given so far.
    batches: Vec<(Vec<Vec<u8>>, Vec<Vec<u8>>)>,
    acts: bool,
}

struct Parser<'w> {
    words: &'w [Vec<u8>],
    at: usize,
    depth: u32,
    plan: Plan,
}

pub(crate) fn find(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut follow = Follow::No;
    let mut follow_operands = Follow::No;
    let mut at = 1_usize;
    while let Some(option @ (b"-L" | b"-H" | b"-P")) = words.get(at).map(Vec::as_slice) {
        follow = if option == b"-L" { Follow::Links } else { Follow::No };
        follow_operands = if option == b"-P" { Follow::No } else { Follow::Links };
        at = at.saturating_add(1);
    }
    let mut tops: Vec<Vec<u8>> = Vec::new();
    while let Some(word) = words.get(at) {
        if word.starts_with(b"-") && word.len() > 1 || matches!(word.as_slice(), b"(" | b"!" | b")") {
            break;
        }
        tops.push(word.clone());
        at = at.saturating_add(1);
    }
    if tops.is_empty() {
        tops.push(b".".to_vec());
    }
    let rest = words.get(at..).unwrap_or_default();
    if rest.iter().any(|word| word == b"-follow") {
        (follow, follow_operands) = (Follow::Links, Follow::Links);
    }
    let mut parser = Parser {
        words: rest,
        at: 0,
        depth: 0,
        plan: Plan::default(),
    };
    let test = if rest.is_empty() {
        Test::True
    } else {
        let test = parser.or(shell)?;
        if parser.at < rest.len() {
            return shell.usage(b"find", "the expression is not interpreted");
        }
        test
    };
    let mut plan = parser.plan;
    let test = if plan.acts {
        test
    } else {
        Test::And(vec![test, Test::Print])
    };
    let mut status = 0;
    for top in tops {
        match shell.files.find(&top, follow_operands)? {
            Ok(found) => {
                let mut walk = Walk {
                    test: &test,
                    follow,
                    status: 0,
                    ended: false,
                };
                walk.visit(shell, &mut plan, &top, found, 0)?;
                status = status.max(walk.status);
                if walk.ended {
                    break;
                }
            }
            Err(errno) => {
                let text = format!("'{}': {errno}", String::from_utf8_lossy(&top));
                shell.complain(b"find", text)?;
                status = 1;
            }
        }
    }
    for (command, arguments) in plan.batches {
        if arguments.is_empty() {
            continue;
        }
        let mut words = Vec::new();
        for word in &command {
            if word == b"{}" {
                words.extend(arguments.iter().cloned());
            } else {
                words.push(word.clone());
            }
        }
        if shell.subshell(|shell| shell.execute(&words))? != 0 {
            status = 1;
        }
    }
    Ok(status)
}

struct Walk<'t> {
    test: &'t Test,
    follow: Follow,
    status: i32,
    ended: bool,
}

impl Walk<'_> {
    fn visit(
        &mut self,
        shell: &mut Shell<'_>,
        plan: &mut Plan,
        path: &[u8],
        found: Drafted,
        depth: usize,
    ) -> Run<()> {
        // The work list holds what is to be entered, and what is to be tested after its children.
        enum Task {
            Enter(Vec<u8>, Box<Drafted>, usize),
            After(Vec<u8>, Box<Drafted>, usize),
        }
        let mut tasks = vec![Task::Enter(path.to_vec(), Box::new(found), depth)];
        while let Some(task) = tasks.pop() {
            shell.files.budget.step(4)?;
            match task {
                Task::After(path, found, depth) => {
                    if depth >= plan.least_depth {
                        let mut pruned = false;
                        self.evaluate(shell, plan, self.test, &path, &found, &mut pruned)?;
                    }
                }
                Task::Enter(path, found, depth) => {
                    let mut pruned = false;
                    if !plan.depth_first && depth >= plan.least_depth {
                        self.evaluate(shell, plan, self.test, &path, &found, &mut pruned)?;
                    }
                    let enters = found.node == DraftNode::Directory
                        && !pruned
                        && plan.most_depth.is_none_or(|most| depth < most);
                    if plan.depth_first {
                        tasks.push(Task::After(path.clone(), found, depth));
                    }
                    if enters && !self.ended {
                        let names = match shell.files.list(&path)? {
                            Ok(names) => names,
                            Err(_) => continue,
                        };
                        for child in names.iter().rev() {
                            let slash: &[u8] = if path.ends_with(b"/") { b"" } else { b"/" };
                            let child = [&path[..], slash, child].concat();
                            let mut found = shell.files.look(&child, self.follow)?;
                            if found.is_none() {
                                found = shell.files.look(&child, Follow::No)?;
                            }
                            if let Some(found) = found {
                                tasks.push(Task::Enter(child, Box::new(found), depth.saturating_add(1)));
                            }
                        }
                    }
                }
            }
            if self.ended {
                break;
            }
        }
        Ok(())
    }

    fn evaluate(
        &mut self,
        shell: &mut Shell<'_>,
        plan: &mut Plan,
        test: &Test,
        path: &[u8],
        found: &Drafted,
        pruned: &mut bool,
    ) -> Run<bool> {
        if self.ended {
            return Ok(false);
        }
        let attributes = &found.attributes;
        Ok(match test {
            Test::True => true,
            Test::Type(letters) => letters.contains(&letter(found.node.kind())),
            Test::Name(pattern, fold) => matches(pattern, name::base(path), *fold),
            Test::Path(pattern, fold) => matches(pattern, path, *fold),
            Test::LinkName(pattern) => match &found.node {
                DraftNode::Symlink(target) => pattern.matches(target),
                _ => false,
            },
            Test::User(uid) => attributes.uid == *uid,
            Test::Group(gid) => attributes.gid == *gid,
            Test::NoUser => accounts::user_name(shell, attributes.uid)?.is_none(),
            Test::NoGroup => accounts::group_name(shell, attributes.gid)?.is_none(),
            Test::Permission('-', bits) => attributes.mode & bits == *bits,
            Test::Permission('/', bits) => *bits == 0 || attributes.mode & bits != 0,
            Test::Permission(_, bits) => attributes.mode == *bits,
            Test::Empty => match &found.node {
                DraftNode::File(content) => content.size() == 0,
                DraftNode::Directory => shell.files.list(path)?.is_ok_and(|names| names.is_empty()),
                _ => false,
            },
            Test::Size(order, count, unit) => {
                let size = match &found.node {
                    DraftNode::File(content) => content.size(),
                    DraftNode::Symlink(target) => u64::try_from(target.len()).unwrap_or(0),
                    _ => return shell.usage(b"find", "-size of a directory is not interpreted"),
                };
                size.div_ceil((*unit).max(1)).cmp(count) == *order
            }
            Test::Newer(time) => attributes.mtime > *time,
            Test::Print => {
                shell.out(&[path, b"\n"].concat())?;
                true
            }
            Test::Print0 => {
                shell.out(&[path, b"\0"].concat())?;
                true
            }
            Test::PrintFormat(format) => {
                let text = formatted(shell, format, path, found)?;
                shell.out(&text)?;
                true
            }
            Test::Delete => {
                let done = if found.node == DraftNode::Directory {
                    shell.files.remove_directory(path)?
                } else {
                    shell.files.unlink(path)?
                };
                if let Err(errno) = done {
                    let text = format!("cannot delete '{}': {errno}", String::from_utf8_lossy(path));
                    shell.complain(b"find", text)?;
                    self.status = 1;
                }
                done.is_ok()
            }
            Test::Prune => {
                *pruned = true;
                true
            }
            Test::Quit => {
                self.ended = true;
                true
            }
            Test::Exec(command) => {
                let words: Vec<Vec<u8>> = command.iter().map(|word| replace(word, path)).collect();
                shell.subshell(|shell| shell.execute(&words))? == 0
            }
            Test::ExecAll(batch) => {
                if let Some((_, arguments)) = plan.batches.get_mut(*batch) {
                    arguments.push(path.to_vec());
                }
                true
            }
            Test::Not(inner) => !self.evaluate(shell, plan, inner, path, found, pruned)?,
            Test::And(tests) => {
                for test in tests {
                    if !self.evaluate(shell, plan, test, path, found, pruned)? {
                        return Ok(false);
                    }
                }
                true
            }
            Test::Or(tests) => {
                for test in tests {
                    if self.evaluate(shell, plan, test, path, found, pruned)? {
                        return Ok(true);
                    }
                }
                false
            }
        })
    }
}

fn matches(pattern: &Pattern, text: &[u8], fold: bool) -> bool {
    if fold {
        pattern.matches(&text.to_ascii_lowercase())
    } else {
        pattern.matches(text)
    }
}

/// `word` with every `{}` replaced.
fn replace(word: &[u8], path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.windows(2).position(|two| two == b"{}") {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(path);
        rest = rest.get(at.saturating_add(2)..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

pub(super) fn letter(kind: NodeKind) -> u8 {
    match kind {
        NodeKind::File => b'f',
        NodeKind::Directory => b'd',
        NodeKind::Symlink => b'l',
        NodeKind::CharDevice => b'c',
        NodeKind::BlockDevice => b'b',
        NodeKind::Fifo => b'p',
        NodeKind::Socket => b's',
    }
}

fn formatted(shell: &mut Shell<'_>, format: &[u8], path: &[u8], found: &Drafted) -> Run<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = format.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, if matches!(byte, b'%' | b'\\') { bytes.next() } else { None }) {
            (b'%', Some(b'p')) => out.extend_from_slice(path),
            (b'%', Some(b'f')) => out.extend_from_slice(name::base(path)),
            (b'%', Some(b'h')) => out.extend_from_slice(name::directory(path)),
            (b'%', Some(b'm')) => {
                out.extend_from_slice(format!("{:o}", found.attributes.mode).as_bytes());
            }
            (b'%', Some(b'U')) => out.extend_from_slice(found.attributes.uid.to_string().as_bytes()),
            (b'%', Some(b'G')) => out.extend_from_slice(found.attributes.gid.to_string().as_bytes()),
            (b'%', Some(b'y')) => out.push(letter(found.node.kind())),
            (b'%', Some(b'l')) => {
                if let DraftNode::Symlink(target) = &found.node {
                    out.extend_from_slice(target);
                }
            }
            (b'%', Some(b'%')) => out.push(b'%'),
            (b'\\', Some(b'n')) => out.push(b'\n'),
            (b'\\', Some(b't')) => out.push(b'\t'),
            (b'\\', Some(b'0')) => out.push(0),
            (b'\\', Some(b'\\')) => out.push(b'\\'),
            (b'%' | b'\\', _) => {
                return shell.usage(b"find", "the format of -printf is not interpreted");
            }
            (byte, _) => out.push(byte),
        }
    }
    Ok(out)
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

    fn or(&mut self, shell: &mut Shell<'_>) -> Run<Test> {
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
        match std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()) {
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
            b"-true" | b"-follow" | b"-xdev" | b"-mount" | b"-noleaf" | b"-ignore_readdir_race" => Test::True,
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
                match super::mode::apply(bits, 0, false, 0) {
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
