//! Redirections and here-documents.

use std::cell::OnceCell;
use std::rc::Rc;

use super::parser::{Parsed, Parser, is_meta};
use super::tree::{Part, Redirection, RedirectionKind, Word};

/// A here-document whose body has not been read yet.
pub(super) struct PendingDocument {
    body: Rc<OnceCell<Word>>,
    end: Vec<u8>,
    strip_tabs: bool,
    quoted: bool,
}

impl Parser<'_> {
    pub(super) fn here_document(&mut self, document: &PendingDocument) -> Parsed<()> {
        let mut body = Vec::new();
        let line_of_body = self.line;
        loop {
            if self.peek().is_none() {
                break;
            }
            let rest = self.rest();
            let end = rest
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len());
            let mut line = rest.get(..end).unwrap_or_default();
            self.skip(end.saturating_add(1));
            if document.strip_tabs {
                while let Some(stripped) = line.strip_prefix(b"\t") {
                    line = stripped;
                }
            }
            // A line continued by a backslash cannot be the end.
            let continued = !document.quoted
                && body.ends_with(b"\\\n")
                && body
                    .iter()
                    .rev()
                    .skip(1)
                    .take_while(|&&b| b == b'\\')
                    .count()
                    % 2
                    == 1;
            if line == document.end.as_slice() && !continued {
                break;
            }
            body.extend_from_slice(line);
            body.push(b'\n');
        }
        let word = if document.quoted {
            Word(vec![Part::Quoted(body)])
        } else {
            let mut inner = Parser {
                input: &body,
                pos: 0,
                line: line_of_body,
                depth: self.depth,
                dialect: self.dialect,
                work: 0,
                pending: Vec::new(),
            };
            Word(vec![Part::DoubleQuoted(inner.here_document_parts()?)])
        };
        let _ = document.body.set(word);
        Ok(())
    }

    pub(super) fn redirection(&mut self) -> Parsed<Option<Redirection>> {
        let digits = self
            .rest()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let Some(operator) = self.peek_at(digits).filter(|op| matches!(op, b'<' | b'>')) else {
            return Ok(None);
        };
        let fd = match self
            .rest()
            .get(..digits)
            .filter(|digits| !digits.is_empty())
        {
            Some(digits) => std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .filter(|&fd: &u32| fd < 256)
                .ok_or_else(|| self.error("bad file descriptor"))?,
            None => u32::from(operator == b'>'),
        };
        self.skip(digits.saturating_add(1));
        let next = self.peek();
        if operator == b'<' && next == Some(b'<') {
            self.bump();
            if self.peek() == Some(b'<') {
                return Err(self.error("\"<<<\" is not POSIX"));
            }
            let strip_tabs = self.peek() == Some(b'-');
            if strip_tabs {
                self.bump();
            }
            self.blanks();
            let (end, quoted) = self.here_document_end()?;
            let body = Rc::new(OnceCell::new());
            self.pending.push(PendingDocument {
                body: body.clone(),
                end,
                strip_tabs,
                quoted,
            });
            return Ok(Some(Redirection {
                fd,
                kind: RedirectionKind::HereDocument(body),
            }));
        }
        if next == Some(b'(') {
            return Err(self.error("process substitution is not POSIX"));
        }
        let kind: fn(Word) -> RedirectionKind = match (operator, next) {
            (_, Some(b'&')) => {
                self.bump();
                RedirectionKind::Duplicate
            }
            (b'<', Some(b'>')) => {
                self.bump();
                RedirectionKind::ReadWrite
            }
            (b'>', Some(b'>')) => {
                self.bump();
                RedirectionKind::Append
            }
            (b'>', Some(b'|')) => {
                self.bump();
                RedirectionKind::Write
            }
            (b'<', _) => RedirectionKind::Read,
            _ => RedirectionKind::Write,
        };
        self.blanks();
        match self.peek() {
            Some(byte) if !is_meta(byte) => {}
            Some(byte) => return Err(self.unexpected(byte)),
            None => return Err(self.error("the script ends where a file's name is missing")),
        }
        let word = self.word()?;
        Ok(Some(Redirection {
            fd,
            kind: kind(word),
        }))
    }

    /// The delimiter of a here-document, and whether any of it is quoted.
    fn here_document_end(&mut self) -> Parsed<(Vec<u8>, bool)> {
        let start = self.pos;
        let mut end = Vec::new();
        let mut quoted = false;
        while let Some(byte) = self.peek() {
            if is_meta(byte) {
                break;
            }
            self.bump();
            match byte {
                b'\\' => {
                    quoted = true;
                    if let Some(next) = self.peek() {
                        end.push(next);
                        self.bump();
                    }
                }
                b'\'' | b'"' => {
                    quoted = true;
                    loop {
                        match self.peek() {
                            None => return Err(self.error("unterminated quoted string")),
                            Some(next) if next == byte => break,
                            Some(next) => {
                                end.push(next);
                                self.bump();
                            }
                        }
                    }
                    self.bump();
                }
                _ => end.push(byte),
            }
        }
        if self.pos == start {
            return Err(self.error("a here-document without a delimiter"));
        }
        Ok((end, quoted))
    }
}
