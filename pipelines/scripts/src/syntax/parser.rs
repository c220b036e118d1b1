//! A recursive-descent parser of the POSIX shell grammar, bounded in depth.

use std::rc::Rc;

use super::redirection::PendingDocument;
use super::tree::{Assignment, Command, Connector, Item, Kind, List, Pipeline, Word};

/// Deepest nesting of constructs accepted. Debian's scripts stay below 15.
const MAX_DEPTH: u32 = 60;
/// Characters looked at, repeated readings included, before a script counts as hostile: an arithmetic expansion that
/// turns out to be a subshell is read twice.
const MAX_WORK: u32 = 20_000_000;

/// Which shell the script names; both are read as POSIX, and bash's own constructs are refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    /// `/bin/sh`: dash.
    Posix,
    /// `/bin/bash`.
    Bash,
}

/// Where and why a script could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: u32,
    pub(crate) why: String,
    /// The depth bound was met.
    pub(crate) too_deep: bool,
}

pub(crate) type Parsed<T> = Result<T, SyntaxError>;

pub(super) struct Parser<'a> {
    pub(super) input: &'a [u8],
    pub(super) pos: usize,
    pub(super) line: u32,
    pub(super) depth: u32,
    pub(super) dialect: Dialect,
    pub(super) work: u32,
    pub(super) pending: Vec<PendingDocument>,
}

const RESERVED: &[&[u8]] = &[
    b"then", b"else", b"elif", b"fi", b"do", b"done", b"esac", b"}",
];

/// Reads a whole script.
pub(crate) fn parse(input: &[u8], dialect: Dialect, line: u32, depth: u32) -> Parsed<List> {
    let mut parser = Parser {
        input,
        pos: 0,
        line,
        depth,
        dialect,
        work: 0,
        pending: Vec::new(),
    };
    let list = parser.list()?;
    match parser.peek() {
        None => Ok(list),
        Some(byte) => Err(parser.unexpected(byte)),
    }
}

pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

pub(crate) fn is_name(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| !first.is_ascii_digit())
        && bytes.iter().copied().all(is_name_byte)
}

pub(super) fn is_meta(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'\n' | b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')'
    )
}

impl<'a> Parser<'a> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.input.get(self.pos).copied()
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.input.get(self.pos.checked_add(ahead)?).copied()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.input.get(self.pos..).unwrap_or_default()
    }

    pub(super) fn bump(&mut self) {
        if self.peek() == Some(b'\n') {
            self.line = self.line.saturating_add(1);
        }
        self.pos = self.pos.saturating_add(1);
        self.work = self.work.saturating_add(1);
    }

    pub(super) fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.bump();
        }
    }

    pub(super) fn error(&self, why: impl Into<String>) -> SyntaxError {
        SyntaxError {
            line: self.line,
            why: why.into(),
            too_deep: false,
        }
    }

    pub(super) fn unexpected(&self, byte: u8) -> SyntaxError {
        let rest = self.rest();
        let end = rest
            .iter()
            .position(|&byte| is_meta(byte))
            .filter(|&end| end > 0)
            .unwrap_or(1);
        let text = rest.get(..end.min(20)).unwrap_or_default();
        if byte == b'\n' {
            self.error("unexpected end of line")
        } else {
            self.error(format!("unexpected \"{}\"", String::from_utf8_lossy(text)))
        }
    }

    fn expected(&self, what: &str) -> SyntaxError {
        match self.peek() {
            None => self.error(format!("the script ends where \"{what}\" is missing")),
            Some(byte) => {
                let mut error = self.unexpected(byte);
                error.why.push_str(&format!(" where \"{what}\" is missing"));
                error
            }
        }
    }

    /// Runs `inner` one level deeper.
    pub(super) fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH || self.work > MAX_WORK {
            let mut error = self.error(format!("constructs nest deeper than {MAX_DEPTH} levels"));
            error.too_deep = true;
            return Err(error);
        }
        let result = inner(self);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    /// Skips blanks, continued lines and a comment.
    pub(super) fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => self.bump(),
                Some(b'\\') if self.peek_at(1) == Some(b'\n') => self.skip(2),
                Some(b'#') => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.bump();
                    }
                }
                _ => return,
            }
        }
    }

    fn newline(&mut self) -> Parsed<()> {
        self.bump();
        for document in std::mem::take(&mut self.pending) {
            self.here_document(&document)?;
        }
        Ok(())
    }

    fn newlines(&mut self) -> Parsed<()> {
        loop {
            self.blanks();
            if self.peek() != Some(b'\n') {
                return Ok(());
            }
            self.newline()?;
        }
    }

    /// Whether the plain word `word` stands here.
    fn at_word(&self, word: &[u8]) -> bool {
        self.rest().starts_with(word) && self.peek_at(word.len()).is_none_or(is_meta)
    }

    fn take_word(&mut self, word: &[u8]) -> bool {
        let found = self.at_word(word);
        if found {
            self.skip(word.len());
            self.blanks();
        }
        found
    }

    fn require(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word.as_bytes()) {
            Ok(())
        } else {
            Err(self.expected(word))
        }
    }

    pub(super) fn list(&mut self) -> Parsed<List> {
        let mut items = Vec::new();
        loop {
            self.newlines()?;
            let ends = match self.peek() {
                None | Some(b')') => true,
                Some(b';') => self.peek_at(1) == Some(b';'),
                _ => RESERVED.iter().any(|word| self.at_word(word)),
            };
            if ends {
                return Ok(List(items));
            }
            let mut item = self.and_or()?;
            self.blanks();
            match self.peek() {
                Some(b'&') if self.peek_at(1) != Some(b'&') => {
                    if self.dialect == Dialect::Bash && self.peek_at(1) == Some(b'>') {
                        return Err(self.error("\"&>\" is not POSIX"));
                    }
                    self.bump();
                    item.background = true;
                }
                Some(b';') if self.peek_at(1) != Some(b';') => self.bump(),
                Some(b'\n' | b')') | None => {}
                Some(b';') => {}
                // `( … ) fi`, `{ …; } then`: after a compound command reserved words are known without a separator.
                Some(_)
                    if item.ends_compound() && RESERVED.iter().any(|word| self.at_word(word)) => {}
                Some(byte) => return Err(self.unexpected(byte)),
            }
            items.push(item);
        }
    }

    /// A list that may not be empty.
    fn body(&mut self) -> Parsed<List> {
        let list = self.list()?;
        if list.0.is_empty() {
            return Err(match self.peek() {
                Some(byte) => self.unexpected(byte),
                None => self.error("the script ends where a command is missing"),
            });
        }
        Ok(list)
    }

    fn and_or(&mut self) -> Parsed<Item> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let connector = match (self.peek(), self.peek_at(1)) {
                (Some(b'&'), Some(b'&')) => Connector::And,
                (Some(b'|'), Some(b'|')) => Connector::Or,
                _ => {
                    return Ok(Item {
                        first,
                        rest,
                        background: false,
                    });
                }
            };
            self.skip(2);
            self.newlines()?;
            rest.push((connector, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Parsed<Pipeline> {
        self.blanks();
        let negated = self.take_word(b"!");
        let mut commands = vec![self.nested(Self::command)?];
        loop {
            self.blanks();
            if self.peek() != Some(b'|') || self.peek_at(1) == Some(b'|') {
                return Ok(Pipeline { negated, commands });
            }
            self.bump();
            if self.peek() == Some(b'&') {
                return Err(self.error("\"|&\" is not POSIX"));
            }
            self.newlines()?;
            commands.push(self.nested(Self::command)?);
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        let line = self.line;
        let kind = match self.peek() {
            None => return Err(self.error("the script ends where a command is missing")),
            Some(b'(') => {
                if self.dialect == Dialect::Bash && self.peek_at(1) == Some(b'(') {
                    return Err(self.error("\"((\" is not POSIX"));
                }
                self.bump();
                let list = self.body()?;
                self.close()?;
                Some(Kind::Subshell(list))
            }
            Some(_) => self.compound()?,
        };
        let Some(kind) = kind else {
            return self.simple(line);
        };
        let mut redirections = Vec::new();
        loop {
            self.blanks();
            match self.redirection()? {
                Some(redirection) => redirections.push(redirection),
                None => break,
            }
        }
        Ok(Command {
            line,
            kind,
            redirections,
        })
    }

    pub(super) fn close(&mut self) -> Parsed<()> {
        if self.peek() != Some(b')') {
            return Err(self.expected(")"));
        }
        self.bump();
        Ok(())
    }

    fn compound(&mut self) -> Parsed<Option<Kind>> {
        if self.take_word(b"{") {
            let list = self.body()?;
            self.require("}")?;
            return Ok(Some(Kind::Group(list)));
        }
        if self.take_word(b"if") {
            let mut arms = Vec::new();
            loop {
                let condition = self.body()?;
                self.require("then")?;
                arms.push((condition, self.body()?));
                if self.take_word(b"elif") {
                    continue;
                }
                let otherwise = if self.take_word(b"else") {
                    Some(self.body()?)
                } else {
                    None
                };
                self.require("fi")?;
                return Ok(Some(Kind::If { arms, otherwise }));
            }
        }
        let until = self.at_word(b"until");
        if self.take_word(b"while") || self.take_word(b"until") {
            let condition = self.body()?;
            let body = self.do_group()?;
            return Ok(Some(Kind::Loop {
                until,
                condition,
                body,
            }));
        }
        if self.take_word(b"for") {
            return self.for_loop().map(Some);
        }
        if self.take_word(b"case") {
            return self.case().map(Some);
        }
        if self.dialect == Dialect::Bash {
            for word in ["[[", "function", "select", "time", "coproc"] {
                if self.at_word(word.as_bytes()) {
                    return Err(self.error(format!("\"{word}\" is not POSIX")));
                }
            }
        }
        for word in RESERVED {
            if self.at_word(word) {
                return Err(self.unexpected(b' '));
            }
        }
        Ok(None)
    }

    fn do_group(&mut self) -> Parsed<List> {
        self.newlines()?;
        self.require("do")?;
        let body = self.body()?;
        self.require("done")?;
        Ok(body)
    }

    fn for_loop(&mut self) -> Parsed<Kind> {
        let name = self.word()?;
        let name = name
            .literal()
            .filter(|name| is_name(name))
            .ok_or_else(|| self.error("\"for\" without a variable's name"))?
            .to_vec();
        self.newlines()?;
        let words = if self.take_word(b"in") {
            let mut words = Vec::new();
            loop {
                self.blanks();
                match self.peek() {
                    Some(b';') => {
                        self.bump();
                        break;
                    }
                    Some(b'\n') | None => break,
                    Some(byte) if is_meta(byte) => return Err(self.unexpected(byte)),
                    Some(_) => words.push(self.word()?),
                }
            }
            Some(words)
        } else {
            if self.peek() == Some(b';') {
                self.bump();
            }
            None
        };
        let body = self.do_group()?;
        Ok(Kind::For { name, words, body })
    }

    fn case(&mut self) -> Parsed<Kind> {
        let word = self.word()?;
        self.newlines()?;
        self.require("in")?;
        let mut arms = Vec::new();
        loop {
            self.newlines()?;
            if self.take_word(b"esac") {
                return Ok(Kind::Case { word, arms });
            }
            if self.peek() == Some(b'(') {
                self.bump();
            }
            let mut patterns = Vec::new();
            loop {
                self.blanks();
                patterns.push(self.word()?);
                self.blanks();
                match self.peek() {
                    Some(b'|') => self.bump(),
                    Some(b')') => {
                        self.bump();
                        break;
                    }
                    _ => return Err(self.expected(")")),
                }
            }
            let body = self.list()?;
            arms.push((patterns, body));
            if self.peek() == Some(b';') && self.peek_at(1) == Some(b';') {
                self.skip(2);
                if self.peek() == Some(b'&') {
                    return Err(self.error("\";;&\" is not POSIX"));
                }
            } else {
                self.newlines()?;
                self.require("esac")?;
                return Ok(Kind::Case { word, arms });
            }
        }
    }

    fn simple(&mut self, line: u32) -> Parsed<Command> {
        let mut assignments = Vec::new();
        let mut words: Vec<Word> = Vec::new();
        let mut redirections = Vec::new();
        loop {
            self.blanks();
            if let Some(redirection) = self.redirection()? {
                redirections.push(redirection);
                continue;
            }
            match self.peek() {
                Some(b'(') if words.len() == 1 && assignments.is_empty() => {
                    let name = words
                        .first()
                        .and_then(Word::literal)
                        .filter(|name| is_name(name) || self.dialect == Dialect::Bash)
                        .map(<[u8]>::to_vec);
                    let Some(name) = name.filter(|_| redirections.is_empty()) else {
                        return Err(self.unexpected(b'('));
                    };
                    self.bump();
                    self.blanks();
                    self.close()?;
                    self.newlines()?;
                    let body = self.nested(Self::command)?;
                    if matches!(body.kind, Kind::Simple { .. }) && self.dialect == Dialect::Bash {
                        return Err(self.error("a function's body is no compound command"));
                    }
                    return Ok(Command {
                        line,
                        kind: Kind::Function {
                            name,
                            body: Rc::new(body),
                        },
                        redirections,
                    });
                }
                Some(byte) if !is_meta(byte) => {
                    let assignment = if words.is_empty() {
                        self.assignment()?
                    } else {
                        None
                    };
                    match assignment {
                        Some(assignment) => assignments.push(assignment),
                        None => words.push(self.word()?),
                    }
                }
                other => {
                    if assignments.is_empty() && words.is_empty() && redirections.is_empty() {
                        return Err(match other {
                            Some(byte) => self.unexpected(byte),
                            None => self.error("the script ends where a command is missing"),
                        });
                    }
                    return Ok(Command {
                        line,
                        kind: Kind::Simple { assignments, words },
                        redirections,
                    });
                }
            }
        }
    }

    fn assignment(&mut self) -> Parsed<Option<Assignment>> {
        let rest = self.rest();
        let length = rest
            .iter()
            .position(|&byte| !is_name_byte(byte))
            .unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default();
        if !is_name(name) {
            return Ok(None);
        }
        let after = rest.get(length..).unwrap_or_default();
        let append = self.dialect == Dialect::Bash && after.starts_with(b"+=");
        if !append && !after.starts_with(b"=") {
            if self.dialect == Dialect::Bash && after.starts_with(b"[") && after.contains(&b'=') {
                let end = after
                    .iter()
                    .position(|&b| is_meta(b))
                    .unwrap_or(after.len());
                if after
                    .get(..end)
                    .is_some_and(|word| word.windows(2).any(|w| w == b"]="))
                {
                    return Err(self.error("arrays are not POSIX"));
                }
            }
            return Ok(None);
        }
        self.skip(length.saturating_add(if append { 2 } else { 1 }));
        if self.dialect == Dialect::Bash && self.peek() == Some(b'(') {
            return Err(self.error("arrays are not POSIX"));
        }
        let value = match self.peek() {
            Some(byte) if !is_meta(byte) => self.word()?,
            _ => Word::default(),
        };
        Ok(Some(Assignment {
            name: name.to_vec(),
            value,
            append,
        }))
    }
}
