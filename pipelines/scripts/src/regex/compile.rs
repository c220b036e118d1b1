//! Reading a regular expression and compiling it into instructions.

use super::{Compiled, Instruction, Syntax, fold, is_word};
use crate::shell::pattern;

/// Longest compiled program, in instructions.
const MAX_PROGRAM: usize = 20_000;
/// Deepest nesting of groups.
const MAX_DEPTH: u32 = 50;
/// Most repetitions a bound may ask for, as in glibc.
const MAX_REPEAT: usize = 255;

#[derive(Debug, Clone)]
pub(super) enum Node {
    Empty,
    Byte(u8),
    Any,
    Set(Box<[bool; 256]>),
    Start,
    End,
    /// `\b`, `\B`, `\<`, `\>`
    Edge(u8),
    Group(usize, Box<Node>),
    Reference(usize),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
}

pub(super) struct Compiler<'p> {
    pub(super) pattern: &'p [u8],
    pub(super) at: usize,
    pub(super) syntax: Syntax,
    /// `\n` and `\t` stand for themselves within brackets too, as in GNU's sed.
    pub(super) sed: bool,
    pub(super) groups: usize,
    pub(super) depth: u32,
    pub(super) refers_back: bool,
}

impl Compiler<'_> {
    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.pattern.get(self.at.checked_add(ahead)?).copied()
    }

    fn starts(&self, basic: &[u8], extended: &[u8]) -> bool {
        let token = match self.syntax {
            Syntax::Basic => basic,
            Syntax::Extended => extended,
        };
        self.pattern
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(token))
    }

    fn take(&mut self, basic: &[u8], extended: &[u8]) -> bool {
        let found = self.starts(basic, extended);
        if found {
            let length = match self.syntax {
                Syntax::Basic => basic.len(),
                Syntax::Extended => extended.len(),
            };
            self.at = self.at.saturating_add(length);
        }
        found
    }

    pub(super) fn alternatives(&mut self) -> Compiled<Node> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err("groups nest too deep".into());
        }
        let mut nodes = vec![self.sequence()?];
        while self.take(b"\\|", b"|") {
            nodes.push(self.sequence()?);
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(match nodes.len() {
            1 => nodes.pop().unwrap_or(Node::Empty),
            _ => Node::Either(nodes),
        })
    }

    fn sequence(&mut self) -> Compiled<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        while let Some(byte) = self.peek() {
            if self.starts(b"\\|", b"|") {
                break;
            }
            if self.starts(b"\\)", b")") && (self.syntax == Syntax::Basic || self.depth > 1) {
                break;
            }
            // An asterisk with nothing before it is itself.
            let nothing_before = nodes.iter().all(|node| matches!(node, Node::Start));
            if byte == b'*' && nothing_before {
                self.at = self.at.saturating_add(1);
                nodes.push(self.repeated(Node::Byte(b'*'))?);
                continue;
            }
            if nothing_before && self.syntax == Syntax::Extended && matches!(byte, b'+' | b'?') {
                self.at = self.at.saturating_add(1);
                continue;
            }
            let atom = self.atom(nodes.is_empty())?;
            if matches!(atom, Node::Start) {
                nodes.push(atom);
                continue;
            }
            nodes.push(self.repeated(atom)?);
        }
        Ok(match nodes.len() {
            0 => Node::Empty,
            1 => nodes.pop().unwrap_or(Node::Empty),
            _ => Node::Sequence(nodes),
        })
    }

    fn repeated(&mut self, atom: Node) -> Compiled<Node> {
        let mut node = atom;
        let mut times = 0_u32;
        loop {
            times = times.saturating_add(1);
            if times > 10 {
                return Err("too many repetitions follow one another".into());
            }
            if self.peek() == Some(b'*') {
                self.at = self.at.saturating_add(1);
                node = Node::Repeat(Box::new(node), 0, None);
            } else if self.take(b"\\+", b"+") {
                node = Node::Repeat(Box::new(node), 1, None);
            } else if self.take(b"\\?", b"?") {
                node = Node::Repeat(Box::new(node), 0, Some(1));
            } else if self.starts(b"\\{", b"{") {
                let before = self.at;
                match self.bounds()? {
                    Some((least, most)) => node = Node::Repeat(Box::new(node), least, most),
                    None => {
                        self.at = before;
                        return Ok(node);
                    }
                }
            } else {
                return Ok(node);
            }
        }
    }

    fn number(&mut self) -> Option<usize> {
        let mut value: Option<usize> = None;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            self.at = self.at.saturating_add(1);
            let digit = usize::from(digit.wrapping_sub(b'0'));
            value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit));
        }
        value
    }

    /// `{m}`, `{m,}`, `{m,n}`; `None` when an extended expression has something else there, a plain brace.
    fn bounds(&mut self) -> Compiled<Option<(usize, Option<usize>)>> {
        self.take(b"\\{", b"{");
        let least = self.number();
        let most = if self.peek() == Some(b',') {
            self.at = self.at.saturating_add(1);
            self.number()
        } else {
            least
        };
        if !self.take(b"\\}", b"}") || (least.is_none() && most.is_none()) {
            return match self.syntax {
                Syntax::Basic => Err("Invalid content of \\{\\}".into()),
                Syntax::Extended => Ok(None),
            };
        }
        let least = least.unwrap_or(0);
        if least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || most < least) {
            return Err("Invalid content of \\{\\}".into());
        }
        Ok(Some((least, most)))
    }

    fn atom(&mut self, first: bool) -> Compiled<Node> {
        if self.take(b"\\(", b"(") {
            self.groups = self.groups.saturating_add(1);
            let group = self.groups;
            let inner = self.alternatives()?;
            if !self.take(b"\\)", b")") {
                return Err("Unmatched ( or \\(".into());
            }
            return Ok(Node::Group(group, Box::new(inner)));
        }
        let Some(byte) = self.peek() else {
            return Ok(Node::Empty);
        };
        self.at = self.at.saturating_add(1);
        Ok(match byte {
            b'.' => Node::Any,
            b'[' => self.bracket()?,
            b'^' if self.syntax == Syntax::Extended || first => Node::Start,
            b'$' => {
                let ends =
                    self.peek().is_none() || self.starts(b"\\)", b")") || self.starts(b"\\|", b"|");
                if self.syntax == Syntax::Extended || ends {
                    Node::End
                } else {
                    Node::Byte(b'$')
                }
            }
            b'\\' => {
                let Some(next) = self.peek() else {
                    return Err("Trailing backslash".into());
                };
                self.at = self.at.saturating_add(1);
                match next {
                    b'1'..=b'9' => {
                        let group = usize::from(next.wrapping_sub(b'0'));
                        if group > self.groups {
                            return Err("Invalid back reference".into());
                        }
                        self.refers_back = true;
                        Node::Reference(group)
                    }
                    b'b' | b'B' | b'<' | b'>' => Node::Edge(next),
                    b'`' => Node::Start,
                    b'\'' => Node::End,
                    b'w' | b'W' => set_of(next == b'W', |byte| is_word(Some(&byte))),
                    b's' | b'S' => set_of(next == b'S', |byte| matches!(byte, b' ' | 9..=13)),
                    b'n' if self.sed => Node::Byte(b'\n'),
                    b't' if self.sed => Node::Byte(b'\t'),
                    b'{' | b'}' if self.syntax == Syntax::Basic => {
                        return Err("Invalid preceding regular expression".into());
                    }
                    next => Node::Byte(next),
                }
            }
            byte => Node::Byte(byte),
        })
    }

    fn bracket(&mut self) -> Compiled<Node> {
        let unmatched = || "Unmatched [, [^, [:, [., or [=".to_owned();
        let negated = self.peek() == Some(b'^');
        if negated {
            self.at = self.at.saturating_add(1);
        }
        let mut set = Box::new([false; 256]);
        let mut put = |low: u8, high: u8| {
            for byte in low..=high {
                if let Some(place) = set.get_mut(usize::from(byte)) {
                    *place = true;
                }
            }
        };
        let mut first = true;
        loop {
            let byte = self.peek().ok_or_else(unmatched)?;
            self.at = self.at.saturating_add(1);
            if byte == b']' && !first {
                break;
            }
            first = false;
            if byte == b'[' && matches!(self.peek(), Some(b':')) {
                let start = self.at.saturating_add(1);
                let rest = self.pattern.get(start..).unwrap_or_default();
                let length = rest
                    .windows(2)
                    .position(|pair| pair == b":]")
                    .ok_or_else(unmatched)?;
                let class = pattern::class(rest.get(..length).unwrap_or_default())
                    .ok_or("Invalid character class name")?;
                for byte in 0..=255_u8 {
                    if class(byte) {
                        put(byte, byte);
                    }
                }
                self.at = start.saturating_add(length).saturating_add(2);
                continue;
            }
            let mut low = byte;
            if byte == b'[' && matches!(self.peek(), Some(b'.' | b'=')) {
                let mark = self.peek().unwrap_or_default();
                low = self.peek_at(1).ok_or_else(unmatched)?;
                if self.peek_at(2) != Some(mark) || self.peek_at(3) != Some(b']') {
                    return Err("Invalid collation character".into());
                }
                self.at = self.at.saturating_add(4);
            } else if byte == b'\\' && self.sed {
                match self.peek() {
                    Some(b'n') => {
                        low = b'\n';
                        self.at = self.at.saturating_add(1);
                    }
                    Some(b't') => {
                        low = b'\t';
                        self.at = self.at.saturating_add(1);
                    }
                    _ => {}
                }
            }
            let ranges =
                self.peek() == Some(b'-') && self.peek_at(1).is_some_and(|next| next != b']');
            if ranges {
                let mut high = self.peek_at(1).ok_or_else(unmatched)?;
                self.at = self.at.saturating_add(2);
                if high == b'[' && matches!(self.peek(), Some(b'.' | b'=')) {
                    high = self.peek_at(1).ok_or_else(unmatched)?;
                    self.at = self.at.saturating_add(4);
                }
                if high < low {
                    return Err("Invalid range end".into());
                }
                put(low, high);
            } else {
                put(low, low);
            }
        }
        if negated {
            for place in set.iter_mut() {
                *place = !*place;
            }
        }
        Ok(Node::Set(set))
    }
}

fn set_of(negated: bool, accepts: impl Fn(u8) -> bool) -> Node {
    let mut set = Box::new([false; 256]);
    for byte in 0..=255_u8 {
        if let Some(place) = set.get_mut(usize::from(byte)) {
            *place = accepts(byte) != negated;
        }
    }
    Node::Set(set)
}

pub(super) fn emit(node: &Node, ignore_case: bool, out: &mut Vec<Instruction>) -> Compiled<()> {
    if out.len() > MAX_PROGRAM {
        return Err("Regular expression too big".into());
    }
    match node {
        Node::Empty => {}
        Node::Byte(byte) => out.push(Instruction::Byte(fold(*byte, ignore_case))),
        Node::Any => out.push(Instruction::Any),
        Node::Set(set) => {
            let mut set = set.clone();
            if ignore_case {
                for byte in 0..=255_u8 {
                    let other = byte.to_ascii_uppercase();
                    if set.get(usize::from(other)).copied().unwrap_or(false)
                        && let Some(place) = set.get_mut(usize::from(byte))
                    {
                        *place = true;
                    }
                }
            }
            out.push(Instruction::Set(set));
        }
        Node::Start => out.push(Instruction::Start),
        Node::End => out.push(Instruction::End),
        Node::Edge(kind) => out.push(Instruction::Edge(*kind)),
        Node::Reference(group) => out.push(Instruction::Reference(*group)),
        Node::Group(group, inner) => {
            let slot = group.saturating_mul(2);
            out.push(Instruction::Save(slot));
            emit(inner, ignore_case, out)?;
            out.push(Instruction::Save(slot.saturating_add(1)));
        }
        Node::Sequence(nodes) => {
            for node in nodes {
                emit(node, ignore_case, out)?;
            }
        }
        Node::Either(nodes) => {
            let mut jumps = Vec::new();
            for (index, node) in nodes.iter().enumerate() {
                let last = index.saturating_add(1) == nodes.len();
                let split = out.len();
                if !last {
                    out.push(Instruction::Split(split.saturating_add(1), 0));
                }
                emit(node, ignore_case, out)?;
                if !last {
                    jumps.push(out.len());
                    out.push(Instruction::Jump(0));
                    let next = out.len();
                    if let Some(place) = out.get_mut(split) {
                        *place = Instruction::Split(split.saturating_add(1), next);
                    }
                }
            }
            let end = out.len();
            for jump in jumps {
                if let Some(place) = out.get_mut(jump) {
                    *place = Instruction::Jump(end);
                }
            }
        }
        Node::Repeat(inner, least, most) => {
            for _ in 0..*least {
                emit(inner, ignore_case, out)?;
            }
            match most {
                None => {
                    let split = out.len();
                    out.push(Instruction::Split(split.saturating_add(1), 0));
                    emit(inner, ignore_case, out)?;
                    out.push(Instruction::Jump(split));
                    let end = out.len();
                    if let Some(place) = out.get_mut(split) {
                        *place = Instruction::Split(split.saturating_add(1), end);
                    }
                }
                Some(most) => {
                    let mut splits = Vec::new();
                    for _ in *least..*most {
                        splits.push(out.len());
                        out.push(Instruction::Split(0, 0));
                        emit(inner, ignore_case, out)?;
                    }
                    let end = out.len();
                    for split in splits {
                        if let Some(place) = out.get_mut(split) {
                            *place = Instruction::Split(split.saturating_add(1), end);
                        }
                    }
                }
            }
        }
    }
    Ok(())
}
