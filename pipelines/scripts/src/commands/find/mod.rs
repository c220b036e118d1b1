//! `find`.

mod expression;

use dormouse_filesystem::{Follow, NodeKind};
use dormouse_overlay::{DraftNode, Drafted};

use super::{accounts, name};
use crate::shell::Shell;
use crate::shell::pattern::Pattern;
use crate::stop::Run;
use expression::Parser;

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

/// A command and its further arguments.
type Batch = (Vec<Vec<u8>>, Vec<Vec<u8>>);

#[derive(Default)]
struct Plan {
    least_depth: usize,
    most_depth: Option<usize>,
    depth_first: bool,
    /// Commands of `-exec ... +`, and what they were given so far.
    batches: Vec<Batch>,
    acts: bool,
}

pub(crate) fn find(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut follow = Follow::No;
    let mut follow_operands = Follow::No;
    let mut at = 1_usize;
    while let Some(option @ (b"-L" | b"-H" | b"-P")) = words.get(at).map(Vec::as_slice) {
        follow = if option == b"-L" {
            Follow::Links
        } else {
            Follow::No
        };
        follow_operands = if option == b"-P" {
            Follow::No
        } else {
            Follow::Links
        };
        at = at.saturating_add(1);
    }
    let mut tops: Vec<Vec<u8>> = Vec::new();
    while let Some(word) = words.get(at) {
        if word.starts_with(b"-") && word.len() > 1 || matches!(word.as_slice(), b"(" | b"!" | b")")
        {
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
                        let Ok(names) = shell.files.list(&path)? else {
                            continue;
                        };
                        for child in names.iter().rev() {
                            let slash: &[u8] = if path.ends_with(b"/") { b"" } else { b"/" };
                            let child = [&path[..], slash, child].concat();
                            let mut found = shell.files.look(&child, self.follow)?;
                            if found.is_none() {
                                found = shell.files.look(&child, Follow::No)?;
                            }
                            if let Some(found) = found {
                                tasks.push(Task::Enter(
                                    child,
                                    Box::new(found),
                                    depth.saturating_add(1),
                                ));
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
                    let text =
                        format!("cannot delete '{}': {errno}", String::from_utf8_lossy(path));
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

fn letter(kind: NodeKind) -> u8 {
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
        match (
            byte,
            if matches!(byte, b'%' | b'\\') {
                bytes.next()
            } else {
                None
            },
        ) {
            (b'%', Some(b'p')) => out.extend_from_slice(path),
            (b'%', Some(b'f')) => out.extend_from_slice(name::base(path)),
            (b'%', Some(b'h')) => out.extend_from_slice(name::directory(path)),
            (b'%', Some(b'm')) => {
                out.extend_from_slice(format!("{:o}", found.attributes.mode).as_bytes());
            }
            (b'%', Some(b'U')) => {
                out.extend_from_slice(found.attributes.uid.to_string().as_bytes());
            }
            (b'%', Some(b'G')) => {
                out.extend_from_slice(found.attributes.gid.to_string().as_bytes());
            }
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
