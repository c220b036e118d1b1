//! Reading a sed script.

use crate::regex::{Regex, Syntax};

/// Deepest nesting of braces.
const MAX_DEPTH: u32 = 30;

#[derive(Debug)]
pub(super) enum Flaw {
    /// sed itself would refuse it.
    Bad(String),
    /// sed knows it, this does not.
    Unknown(String),
}

pub(super) type Parsed<T> = Result<T, Flaw>;

#[derive(Debug)]
pub(super) enum Address {
    Line(usize),
    Last,
    /// `None`: the last expression used.
    Match(Option<Regex>),
    /// `first~step`
    Step(usize, usize),
    /// `addr,+N`
    Plus(usize),
}

#[derive(Debug, Default)]
pub(super) struct Range {
    pub(super) first: Option<Address>,
    pub(super) second: Option<Address>,
    pub(super) negated: bool,
}

#[derive(Debug)]
pub(super) enum Piece {
    Text(Vec<u8>),
    Group(usize),
    /// `\U`, `\L`, `\u`, `\l`, `\E`
    Case(u8),
}

#[derive(Debug)]
pub(super) enum Action {
    /// Ends at this command when it does not apply.
    Open(usize),
    Close,
    Substitute {
        regex: Option<Regex>,
        replacement: Vec<Piece>,
        global: bool,
        number: usize,
        print: bool,
    },
    Delete,
    DeleteFirst,
    Print,
    PrintFirst,
    Quit {
        print: bool,
        status: i32,
    },
    Append(Vec<u8>),
    Insert(Vec<u8>),
    Change(Vec<u8>),
    Number,
    Next,
    NextAppend,
    Hold,
    HoldAppend,
    Get,
    GetAppend,
    Exchange,
    Map(Box<[u8; 256]>),
    /// To this command; past the end without a label.
    Branch(usize),
    BranchIf(usize),
    Label,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) range: Range,
    pub(super) action: Action,
}

pub(super) struct Parser<'t> {
    text: &'t [u8],
    pub(super) at: usize,
    syntax: Syntax,
}

enum Raw {
    Done(Action),
    Branch(Vec<u8>, bool),
    Open,
    Label(Vec<u8>),
}

pub(super) fn parse(text: &[u8], extended: bool) -> Parsed<Vec<Step>> {
    let mut parser = Parser {
        text,
        at: 0,
        syntax: if extended {
            Syntax::Extended
        } else {
            Syntax::Basic
        },
    };
    let mut raw: Vec<(Range, Raw)> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut closes: Vec<(usize, usize)> = Vec::new();
    loop {
        parser.skip(b" \t\n;");
        let Some(byte) = parser.peek() else { break };
        if byte == b'#' {
            while parser.peek().is_some_and(|byte| byte != b'\n') {
                parser.at = parser.at.saturating_add(1);
            }
            continue;
        }
        let range = parser.range()?;
        parser.skip(b" \t");
        let Some(command) = parser.next() else {
            return Err(Flaw::Bad("missing command".into()));
        };
        if command == b'{' {
            open.push(raw.len());
            if open.len() > usize::try_from(MAX_DEPTH).unwrap_or(0) {
                return Err(Flaw::Unknown("braces nest too deep".into()));
            }
            raw.push((range, Raw::Open));
            continue;
        }
        if command == b'}' {
            let Some(start) = open.pop() else {
                return Err(Flaw::Bad("unexpected `}'".into()));
            };
            closes.push((start, raw.len()));
            raw.push((range, Raw::Done(Action::Close)));
            parser.end()?;
            continue;
        }
        let action = parser.action(command)?;
        raw.push((range, action));
    }
    if !open.is_empty() {
        return Err(Flaw::Bad("unmatched `{'".into()));
    }
    let labels: Vec<(Vec<u8>, usize)> = raw
        .iter()
        .enumerate()
        .filter_map(|(index, (_, action))| match action {
            Raw::Label(name) => Some((name.clone(), index)),
            _ => None,
        })
        .collect();
    let end = raw.len();
    let mut out = Vec::new();
    for (index, (range, action)) in raw.into_iter().enumerate() {
        let action = match action {
            Raw::Done(action) => action,
            Raw::Label(_) => Action::Label,
            Raw::Open => {
                let close = closes
                    .iter()
                    .find(|&&(start, _)| start == index)
                    .map_or(end, |&(_, close)| close);
                Action::Open(close)
            }
            Raw::Branch(label, conditional) => {
                let to = if label.is_empty() {
                    end
                } else {
                    labels
                        .iter()
                        .find(|(name, _)| *name == label)
                        .map(|&(_, to)| to)
                        .ok_or_else(|| Flaw::Bad("can't find label".into()))?
                };
                if conditional {
                    Action::BranchIf(to)
                } else {
                    Action::Branch(to)
                }
            }
        };
        out.push(Step { range, action });
    }
    Ok(out)
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        if byte.is_some() {
            self.at = self.at.saturating_add(1);
        }
        byte
    }

    pub(super) fn skip(&mut self, bytes: &[u8]) {
        while self.peek().is_some_and(|byte| bytes.contains(&byte)) {
            self.at = self.at.saturating_add(1);
        }
    }

    pub(super) fn number(&mut self) -> Option<usize> {
        let mut value: Option<usize> = None;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            self.at = self.at.saturating_add(1);
            let digit = usize::from(digit.wrapping_sub(b'0'));
            value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit));
        }
        value
    }

    /// The end of a command.
    fn end(&mut self) -> Parsed<()> {
        self.skip(b" \t");
        match self.peek() {
            None | Some(b'\n' | b';' | b'}' | b'#') => Ok(()),
            Some(_) => Err(Flaw::Bad("extra characters after command".into())),
        }
    }

    /// Text up to an unescaped delimiter, in which an escaped one loses its backslash.
    pub(super) fn delimited(&mut self, delimiter: u8, is_regex: bool) -> Parsed<Vec<u8>> {
        let mut out = Vec::new();
        let mut in_bracket = false;
        let mut bracket_start = 0_usize;
        loop {
            let Some(byte) = self.next() else {
                return Err(Flaw::Bad("unterminated address or `s' command".into()));
            };
            if in_bracket {
                out.push(byte);
                if byte == b'[' && matches!(self.peek(), Some(b':' | b'.' | b'=')) {
                    let mark = self.peek().unwrap_or_default();
                    while let Some(inner) = self.next() {
                        out.push(inner);
                        if inner == mark && self.peek() == Some(b']') && out.len() > 2 {
                            self.at = self.at.saturating_add(1);
                            out.push(b']');
                            break;
                        }
                        if inner == b'\n' {
                            break;
                        }
                    }
                } else if byte == b']' && out.len() > bracket_start.saturating_add(1) {
                    in_bracket = false;
                } else if byte == b'\n' {
                    return Err(Flaw::Bad("unterminated address or `s' command".into()));
                }
                continue;
            }
            match byte {
                _ if byte == delimiter => return Ok(out),
                b'\\' => match self.next() {
                    Some(next) if next == delimiter && next != b'\\' => {
                        // In an expression the delimiter stands for itself.
                        if is_regex && b"|+?(){}^$.*[".contains(&next) {
                            if b".*[^$".contains(&next) {
                                out.extend_from_slice(&[b'[', next, b']']);
                                if next == b'^' {
                                    return Err(Flaw::Unknown("^ as a delimiter".into()));
                                }
                            } else if matches!(self.syntax, Syntax::Extended) {
                                out.extend_from_slice(&[b'[', next, b']']);
                            } else {
                                out.push(next);
                            }
                        } else if !is_regex && next == b'&' {
                            out.extend_from_slice(b"\\&");
                        } else {
                            out.push(next);
                        }
                    }
                    Some(next) => {
                        out.push(b'\\');
                        out.push(next);
                    }
                    None => return Err(Flaw::Bad("unterminated address or `s' command".into())),
                },
                b'\n' if is_regex => {
                    return Err(Flaw::Bad("unterminated address or `s' command".into()));
                }
                b'[' if is_regex => {
                    in_bracket = true;
                    out.push(byte);
                    if self.peek() == Some(b'^') {
                        self.at = self.at.saturating_add(1);
                        out.push(b'^');
                    }
                    bracket_start = out.len();
                }
                _ => out.push(byte),
            }
        }
    }

    /// An expression; the empty one is the last used.
    pub(super) fn regex(&self, pattern: &[u8], ignore_case: bool) -> Parsed<Option<Regex>> {
        if pattern.is_empty() {
            return Ok(None);
        }
        if pattern
            .windows(2)
            .any(|two| matches!(two, [b'\\', b'c' | b'd' | b'o' | b'x' | b'f' | b'v' | b'a']))
        {
            return Err(Flaw::Unknown("an escape in the expression".into()));
        }
        Regex::new(pattern, self.syntax, ignore_case, true)
            .map(Some)
            .map_err(Flaw::Bad)
    }

    fn range(&mut self) -> Parsed<Range> {
        let mut range = Range {
            first: self.address()?,
            ..Range::default()
        };
        if range.first.is_some() {
            self.skip(b" \t");
            if self.peek() == Some(b',') {
                self.at = self.at.saturating_add(1);
                self.skip(b" \t");
                range.second = if self.peek() == Some(b'+') {
                    self.at = self.at.saturating_add(1);
                    Some(Address::Plus(
                        self.number()
                            .ok_or_else(|| Flaw::Bad("unexpected `,'".into()))?,
                    ))
                } else {
                    self.address()?
                };
                match range.second {
                    None => return Err(Flaw::Bad("unexpected `,'".into())),
                    Some(Address::Step(..)) => {
                        return Err(Flaw::Unknown("a step as second address".into()));
                    }
                    _ => {}
                }
                if matches!(range.first, Some(Address::Line(0)))
                    && !matches!(range.second, Some(Address::Match(_)))
                {
                    return Err(Flaw::Bad("invalid usage of line address 0".into()));
                }
            } else if matches!(range.first, Some(Address::Line(0))) {
                return Err(Flaw::Bad("invalid usage of line address 0".into()));
            }
        }
        self.skip(b" \t");
        while self.peek() == Some(b'!') {
            self.at = self.at.saturating_add(1);
            range.negated = true;
            self.skip(b" \t");
        }
        Ok(range)
    }

    fn address(&mut self) -> Parsed<Option<Address>> {
        let delimiter = match self.peek() {
            Some(b'$') => {
                self.at = self.at.saturating_add(1);
                return Ok(Some(Address::Last));
            }
            Some(b'0'..=b'9') => {
                let line = self.number().unwrap_or(0);
                if self.peek() == Some(b'~') {
                    self.at = self.at.saturating_add(1);
                    let step = self.number().unwrap_or(0);
                    return Ok(Some(Address::Step(line, step)));
                }
                return Ok(Some(Address::Line(line)));
            }
            Some(b'/') => {
                self.at = self.at.saturating_add(1);
                b'/'
            }
            Some(b'\\') => {
                self.at = self.at.saturating_add(1);
                self.next()
                    .ok_or_else(|| Flaw::Bad("unterminated address regex".into()))?
            }
            _ => return Ok(None),
        };
        let pattern = self.delimited(delimiter, true)?;
        let mut ignore = false;
        loop {
            match self.peek() {
                Some(b'I') => ignore = true,
                Some(b'M') => return Err(Flaw::Unknown("the flag M".into())),
                _ => break,
            }
            self.at = self.at.saturating_add(1);
        }
        Ok(Some(Address::Match(self.regex(&pattern, ignore)?)))
    }

    fn label(&mut self) -> Vec<u8> {
        self.skip(b" \t");
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|byte| b"\n;".contains(byte))
            .unwrap_or(rest.len());
        self.at = self.at.saturating_add(end);
        rest.get(..end)
            .unwrap_or_default()
            .trim_ascii_end()
            .to_vec()
    }

    fn action(&mut self, command: u8) -> Parsed<Raw> {
        let simple = match command {
            b'd' => Action::Delete,
            b'D' => Action::DeleteFirst,
            b'p' => Action::Print,
            b'P' => Action::PrintFirst,
            b'=' => Action::Number,
            b'n' => Action::Next,
            b'N' => Action::NextAppend,
            b'h' => Action::Hold,
            b'H' => Action::HoldAppend,
            b'g' => Action::Get,
            b'G' => Action::GetAppend,
            b'x' => Action::Exchange,
            b'q' | b'Q' => {
                self.skip(b" \t");
                let status = self
                    .number()
                    .and_then(|n| i32::try_from(n).ok())
                    .unwrap_or(0);
                Action::Quit {
                    print: command == b'q',
                    status,
                }
            }
            b'b' => return Ok(Raw::Branch(self.branch_label(), false)),
            b't' => return Ok(Raw::Branch(self.branch_label(), true)),
            b':' => return Ok(Raw::Label(self.label())),
            b'a' | b'i' | b'c' => {
                let text = self.inserted(command)?;
                return Ok(Raw::Done(match command {
                    b'a' => Action::Append(text),
                    b'i' => Action::Insert(text),
                    _ => Action::Change(text),
                }));
            }
            b's' => self.substitute()?,
            b'y' => self.map()?,
            other => {
                return Err(Flaw::Unknown(format!(
                    "the command \"{}\" is not interpreted",
                    char::from(other).escape_default()
                )));
            }
        };
        self.end()?;
        Ok(Raw::Done(simple))
    }

    fn branch_label(&mut self) -> Vec<u8> {
        self.skip(b" \t");
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|byte| b"\n;}".contains(byte))
            .unwrap_or(rest.len());
        self.at = self.at.saturating_add(end);
        rest.get(..end)
            .unwrap_or_default()
            .trim_ascii_end()
            .to_vec()
    }
}
