//! `test` and `[`.

use dormouse_filesystem::{Follow, NodeKind, Time};
use dormouse_overlay::{DraftNode, Drafted};

use super::Shell;
use super::streams::Stream;
use crate::stop::Run;
use crate::syntax::Dialect;

/// Deepest nesting of parentheses and negations.
const MAX_DEPTH: u32 = 50;

enum Failure {
    Bad(String),
    Stop(crate::stop::Stop),
}

impl From<crate::stop::Stop> for Failure {
    fn from(stop: crate::stop::Stop) -> Self {
        Self::Stop(stop)
    }
}

type Answer = Result<bool, Failure>;

pub(crate) fn bracket(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    match arguments.split_last() {
        Some((last, rest)) if last == b"]" && !rest.is_empty() => {
            evaluate(shell, rest.get(1..).unwrap_or_default())
        }
        _ => {
            shell.complain(b"[", "missing ]")?;
            Ok(2)
        }
    }
}

pub(crate) fn test(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    evaluate(shell, arguments.get(1..).unwrap_or_default())
}

fn evaluate(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut parser = Parser {
        shell,
        arguments,
        at: 0,
        depth: 0,
    };
    let answer = parser.whole();
    match answer {
        Ok(answer) => Ok(i32::from(!answer)),
        Err(Failure::Bad(why)) => {
            shell.complain(b"test", why)?;
            Ok(2)
        }
        Err(Failure::Stop(stop)) => Err(stop),
    }
}

struct Parser<'s, 'a, 't> {
    shell: &'s mut Shell<'a>,
    arguments: &'t [Vec<u8>],
    at: usize,
    depth: u32,
}

fn is_unary(text: &[u8]) -> bool {
    matches!(text, [b'-', letter] if b"bcdefghknprstuwxzLSOG".contains(letter))
}

fn is_binary(text: &[u8], dialect: Dialect) -> bool {
    matches!(
        text,
        b"=" | b"!="
            | b"<"
            | b">"
            | b"-eq"
            | b"-ne"
            | b"-lt"
            | b"-le"
            | b"-gt"
            | b"-ge"
            | b"-nt"
            | b"-ot"
            | b"-ef"
    ) || (dialect == Dialect::Bash && text == b"==")
}

impl Parser<'_, '_, '_> {
    fn argument(&self, ahead: usize) -> Option<&[u8]> {
        self.arguments
            .get(self.at.checked_add(ahead)?)
            .map(Vec::as_slice)
    }

    fn left(&self) -> usize {
        self.arguments.len().saturating_sub(self.at)
    }

    fn whole(&mut self) -> Answer {
        let dialect = self.shell.environment.dialect;
        // Up to four arguments mean what POSIX says, however odd they look.
        let answer = match self.left() {
            0 => return Ok(false),
            1 => return Ok(self.argument(0).is_some_and(|text| !text.is_empty())),
            2 if self.argument(0) == Some(b"!") => {
                return Ok(self.argument(1).is_some_and(<[u8]>::is_empty));
            }
            3 if self.argument(1).is_some_and(|op| is_binary(op, dialect)) => self.primary(),
            4 if self.argument(0) == Some(b"!")
                && self.argument(2).is_some_and(|op| is_binary(op, dialect)) =>
            {
                self.at = 1;
                self.primary().map(|answer| !answer)
            }
            _ => self.or(),
        };
        let answer = answer?;
        match self.argument(0) {
            None => Ok(answer),
            Some(text) => Err(Failure::Bad(format!(
                "{}: unexpected operator",
                String::from_utf8_lossy(text)
            ))),
        }
    }

    fn or(&mut self) -> Answer {
        let mut answer = self.and()?;
        while self.argument(0) == Some(b"-o") {
            self.at = self.at.saturating_add(1);
            let right = self.and()?;
            answer = answer || right;
        }
        Ok(answer)
    }

    fn and(&mut self) -> Answer {
        let mut answer = self.not()?;
        while self.argument(0) == Some(b"-a") {
            self.at = self.at.saturating_add(1);
            let right = self.not()?;
            answer = answer && right;
        }
        Ok(answer)
    }

    fn not(&mut self) -> Answer {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(Failure::Bad("nested too deep".into()));
        }
        let dialect = self.shell.environment.dialect;
        let compares = self.argument(1).is_some_and(|op| is_binary(op, dialect));
        let answer = if self.argument(0) == Some(b"!") && !(compares && self.left() == 3) {
            self.at = self.at.saturating_add(1);
            self.not().map(|answer| !answer)
        } else {
            self.primary()
        };
        self.depth = self.depth.saturating_sub(1);
        answer
    }

    fn primary(&mut self) -> Answer {
        let dialect = self.shell.environment.dialect;
        let Some(first) = self.argument(0).map(<[u8]>::to_vec) else {
            return Err(Failure::Bad("argument expected".into()));
        };
        if let Some(operator) = self.argument(1).map(<[u8]>::to_vec)
            && is_binary(&operator, dialect)
            && let Some(right) = self.argument(2).map(<[u8]>::to_vec)
        {
            self.at = self.at.saturating_add(3);
            return self.compare(&first, &operator, &right);
        }
        if first == b"(" {
            self.at = self.at.saturating_add(1);
            let answer = self.or()?;
            if self.argument(0) != Some(b")") {
                return Err(Failure::Bad("closing paren expected".into()));
            }
            self.at = self.at.saturating_add(1);
            return Ok(answer);
        }
        if is_unary(&first) && self.left() > 1 {
            let operand = self.argument(1).unwrap_or_default().to_vec();
            self.at = self.at.saturating_add(2);
            return self.unary(&first, &operand);
        }
        self.at = self.at.saturating_add(1);
        Ok(!first.is_empty())
    }

    fn compare(&mut self, left: &[u8], operator: &[u8], right: &[u8]) -> Answer {
        Ok(match operator {
            b"=" | b"==" => left == right,
            b"!=" => left != right,
            b"<" => left < right,
            b">" => left > right,
            b"-nt" | b"-ot" | b"-ef" => {
                let one = self.shell.files.look(left, Follow::Links)?;
                let two = self.shell.files.look(right, Follow::Links)?;
                let time = |found: &Option<Drafted>| -> Option<Time> {
                    found.as_ref().map(|found| found.attributes.mtime)
                };
                match operator {
                    b"-nt" => time(&one) > time(&two),
                    b"-ot" => time(&one) < time(&two),
                    _ => match (one, two) {
                        (Some(one), Some(two)) => {
                            one.identity == two.identity || one.path == two.path
                        }
                        _ => false,
                    },
                }
            }
            _ => {
                let (left, right) = (integer(left)?, integer(right)?);
                match operator {
                    b"-eq" => left == right,
                    b"-ne" => left != right,
                    b"-lt" => left < right,
                    b"-le" => left <= right,
                    b"-gt" => left > right,
                    _ => left >= right,
                }
            }
        })
    }

    fn unary(&mut self, operator: &[u8], operand: &[u8]) -> Answer {
        let letter = operator.get(1).copied().unwrap_or_default();
        match letter {
            b'n' => return Ok(!operand.is_empty()),
            b'z' => return Ok(operand.is_empty()),
            b't' => {
                // Nobody sits at the terminal of a sleeping machine.
                let number = integer(operand)?;
                let known = u32::try_from(number).ok();
                let stream = known.and_then(|fd| self.shell.environment.streams.get(&fd));
                let _ = stream.is_some_and(|fd| matches!(*fd.borrow(), Stream::Terminal));
                return Ok(false);
            }
            _ => {}
        }
        let follow = if matches!(letter, b'h' | b'L') {
            Follow::No
        } else {
            Follow::Links
        };
        let Some(found) = self.shell.files.look(operand, follow)? else {
            return Ok(false);
        };
        let mode = found.attributes.mode;
        let kind = found.node.kind();
        if let Some(user) = &self.shell.files.user {
            return as_user(user, letter, operand, &found);
        }
        Ok(match letter {
            b'e' | b'r' | b'w' => true,
            b'f' => kind == NodeKind::File,
            b'd' => kind == NodeKind::Directory,
            b'h' | b'L' => kind == NodeKind::Symlink,
            b's' => match &found.node {
                DraftNode::File(content) => content.size() > 0,
                DraftNode::Directory => true,
                _ => false,
            },
            b'x' => kind == NodeKind::Directory || mode & 0o111 != 0,
            b'b' => kind == NodeKind::BlockDevice,
            b'c' => kind == NodeKind::CharDevice,
            b'p' => kind == NodeKind::Fifo,
            b'S' => kind == NodeKind::Socket,
            b'u' => mode & 0o4000 != 0,
            b'g' => mode & 0o2000 != 0,
            b'k' => mode & 0o1000 != 0,
            b'O' => found.attributes.uid == 0,
            b'G' => found.attributes.gid == 0,
            _ => return Err(Failure::Bad("unknown operator".into())),
        })
    }
}

/// What a user other than root is told of a file. Folders on the way are taken to be open to all, as they are on every
/// path that scripts ask for; a folder that is not would be seen as missing.
fn as_user(user: &crate::files::User, letter: u8, operand: &[u8], found: &Drafted) -> Answer {
    let attributes = &found.attributes;
    if !operand.starts_with(b"/") {
        return Err(Failure::Stop(crate::stop::Stop::defer(
            crate::call::Reason::Usage,
            "asks for a relative path as another user",
        )));
    }
    let shift = if attributes.uid == user.uid {
        6
    } else if user.groups.contains(&attributes.gid) {
        3
    } else {
        0
    };
    let allowed = |bit: u16| (attributes.mode >> shift) & bit != 0;
    Ok(match letter {
        b'e' => true,
        b'f' => found.node.kind() == NodeKind::File,
        b'd' => found.node.kind() == NodeKind::Directory,
        b'r' => allowed(4),
        b'w' => allowed(2),
        b'x' => allowed(1),
        b'O' => attributes.uid == user.uid,
        b'G' => user.groups.first() == Some(&attributes.gid),
        _ => {
            return Err(Failure::Stop(crate::stop::Stop::defer(
                crate::call::Reason::Usage,
                "asks for a file as another user",
            )));
        }
    })
}

fn integer(text: &[u8]) -> Result<i64, Failure> {
    let trimmed = text.trim_ascii();
    let digits = trimmed.strip_prefix(b"+").unwrap_or(trimmed);
    std::str::from_utf8(digits)
        .ok()
        .filter(|digits| !digits.starts_with('+'))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Failure::Bad(format!("Illegal number: {}", String::from_utf8_lossy(text))))
}
