//! Words: quoting and expansions.

use std::rc::Rc;

use super::parser::{Dialect, Parsed, Parser, is_name_byte, parse};
use super::tree::{Operation, Parameter, Part, Word};

/// How characters are read inside a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    /// Unquoted, up to a blank or operator.
    Plain,
    /// Unquoted inside `${...}`, up to `}`.
    Braced,
    /// Between double quotes.
    Double,
    /// Inside `${...}` between double quotes, up to `}`.
    DoubleBraced,
    /// A here-document, up to its end.
    Document,
    /// Arithmetic, up to `))`.
    Arithmetic,
}

impl Context {
    fn double(self) -> bool {
        matches!(
            self,
            Self::Double | Self::DoubleBraced | Self::Document | Self::Arithmetic
        )
    }
}

#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    literal: Vec<u8>,
}

impl Parts {
    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.parts
                .push(Part::Literal(std::mem::take(&mut self.literal)));
        }
    }

    fn push(&mut self, part: Part) {
        self.flush();
        self.parts.push(part);
    }

    fn finish(mut self) -> Vec<Part> {
        self.flush();
        self.parts
    }
}

impl Parser<'_> {
    /// A word that begins here.
    pub(super) fn word(&mut self) -> Parsed<Word> {
        let parts = self.parts(Context::Plain)?;
        if parts.is_empty() {
            return Err(self.error("a word is missing"));
        }
        Ok(Word(parts))
    }

    pub(super) fn here_document_parts(&mut self) -> Parsed<Vec<Part>> {
        self.parts(Context::Document)
    }

    fn parts(&mut self, context: Context) -> Parsed<Vec<Part>> {
        self.nested(|parser| parser.parts_within(context))
    }

    fn parts_within(&mut self, context: Context) -> Parsed<Vec<Part>> {
        let mut out = Parts::default();
        let mut parentheses = 0_u32;
        loop {
            let Some(byte) = self.peek() else {
                return match context {
                    Context::Plain | Context::Document => Ok(out.finish()),
                    Context::Double => Err(self.error("unterminated quoted string")),
                    Context::Braced | Context::DoubleBraced => {
                        Err(self.error("the script ends where \"}\" is missing"))
                    }
                    Context::Arithmetic => {
                        Err(self.error("the script ends where \"))\" is missing"))
                    }
                };
            };
            match (context, byte) {
                (
                    Context::Plain,
                    b' ' | b'\t' | b'\n' | b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')',
                ) => {
                    return Ok(out.finish());
                }
                (Context::Braced | Context::DoubleBraced, b'}') | (Context::Double, b'"') => {
                    return Ok(out.finish());
                }
                (Context::Arithmetic, b'(') => {
                    parentheses = parentheses.saturating_add(1);
                    out.literal.push(byte);
                    self.bump();
                }
                (Context::Arithmetic, b')') => {
                    if parentheses == 0 {
                        return Ok(out.finish());
                    }
                    parentheses = parentheses.saturating_sub(1);
                    out.literal.push(byte);
                    self.bump();
                }
                (_, b'\\') => self.backslash(context, &mut out),
                (Context::Plain | Context::Braced, b'\'') => {
                    self.bump();
                    let text = self.single_quoted()?;
                    out.push(Part::Quoted(text));
                }
                (Context::Plain | Context::Braced, b'"') => {
                    self.bump();
                    let parts = self.parts(Context::Double)?;
                    self.bump();
                    out.push(Part::DoubleQuoted(parts));
                }
                // Inner quotes of "${x:-"..."}" and of arithmetic fall away.
                (Context::DoubleBraced | Context::Arithmetic, b'"') => self.bump(),
                (_, b'$') => self.dollar(context, &mut out)?,
                (_, b'`') => {
                    let part = self.backquoted(context)?;
                    out.push(part);
                }
                _ => {
                    out.literal.push(byte);
                    self.bump();
                }
            }
        }
    }

    fn backslash(&mut self, context: Context, out: &mut Parts) {
        self.bump();
        let Some(next) = self.peek() else {
            out.literal.push(b'\\');
            return;
        };
        if next == b'\n' {
            self.bump();
            return;
        }
        let escapes = match context {
            Context::Plain | Context::Braced => true,
            Context::Double | Context::Arithmetic => matches!(next, b'$' | b'`' | b'"' | b'\\'),
            Context::DoubleBraced => matches!(next, b'$' | b'`' | b'"' | b'\\' | b'}'),
            Context::Document => matches!(next, b'$' | b'`' | b'\\'),
        };
        self.bump();
        if !escapes {
            out.literal.push(b'\\');
            out.literal.push(next);
        } else {
            out.push(Part::Quoted(vec![next]));
        }
    }

    fn single_quoted(&mut self) -> Parsed<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("unterminated quoted string")),
                Some(b'\'') => {
                    self.bump();
                    return Ok(text);
                }
                Some(byte) => {
                    text.push(byte);
                    self.bump();
                }
            }
        }
    }

    fn dollar(&mut self, context: Context, out: &mut Parts) -> Parsed<()> {
        self.bump();
        match self.peek() {
            Some(b'(') => {
                let part = if self.peek_at(1) == Some(b'(') {
                    self.arithmetic()?
                } else {
                    self.substitution()?
                };
                out.push(part);
            }
            Some(b'{') => {
                self.bump();
                let part = self.braced(context)?;
                out.push(part);
            }
            Some(byte) if byte == b'_' || byte.is_ascii_alphabetic() => {
                let rest = self.rest();
                let length = rest
                    .iter()
                    .position(|&byte| !is_name_byte(byte))
                    .unwrap_or(rest.len());
                let name = rest.get(..length).unwrap_or_default().to_vec();
                self.skip(length);
                out.push(value_of(name));
            }
            Some(byte)
                if byte.is_ascii_digit()
                    || matches!(byte, b'@' | b'*' | b'#' | b'?' | b'-' | b'$' | b'!') =>
            {
                self.bump();
                out.push(value_of(vec![byte]));
            }
            Some(quote @ (b'\'' | b'"'))
                if self.dialect == Dialect::Bash
                    && matches!(context, Context::Plain | Context::Braced) =>
            {
                out.push(Part::Foreign(format!("${}", char::from(quote))));
            }
            _ => out.literal.push(b'$'),
        }
        Ok(())
    }

    fn substitution(&mut self) -> Parsed<Part> {
        self.bump();
        let list = self.nested(Self::list)?;
        self.close()?;
        Ok(Part::Substitution(Rc::new(list)))
    }

    fn arithmetic(&mut self) -> Parsed<Part> {
        let (pos, line, depth) = (self.pos, self.line, self.depth);
        self.skip(2);
        match self.parts(Context::Arithmetic) {
            Ok(parts) if self.rest().starts_with(b"))") => {
                self.skip(2);
                return Ok(Part::Arithmetic(Word(parts)));
            }
            Err(error) if error.too_deep => return Err(error),
            _ => {}
        }
        // A subshell inside a command substitution.
        (self.pos, self.line, self.depth) = (pos, line, depth);
        self.nested(Self::substitution)
    }

    fn backquoted(&mut self, context: Context) -> Parsed<Part> {
        let line = self.line;
        self.bump();
        let mut text = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("unterminated backquotes")),
                Some(b'`') => break,
                Some(b'\\') => {
                    self.bump();
                    match self.peek() {
                        Some(next @ (b'$' | b'`' | b'\\')) => {
                            text.push(next);
                            self.bump();
                        }
                        Some(b'"') if context.double() => {
                            text.push(b'"');
                            self.bump();
                        }
                        Some(b'\n') => self.bump(),
                        _ => text.push(b'\\'),
                    }
                }
                Some(byte) => {
                    text.push(byte);
                    self.bump();
                }
            }
        }
        self.bump();
        let list = parse(&text, self.dialect, line, self.depth.saturating_add(1))?;
        Ok(Part::Substitution(Rc::new(list)))
    }

    /// After `${`.
    fn braced(&mut self, context: Context) -> Parsed<Part> {
        let start = self.pos;
        if self.peek() == Some(b'#')
            && self.peek_at(1).is_some_and(|byte| {
                is_name_byte(byte) || matches!(byte, b'@' | b'*' | b'?' | b'-' | b'$' | b'!' | b'#')
            })
        {
            let (pos, line) = (self.pos, self.line);
            self.bump();
            let name = self.parameter_name();
            if self.peek() == Some(b'}') && !name.is_empty() {
                self.bump();
                return Ok(parameter(name, Operation::Length));
            }
            (self.pos, self.line) = (pos, line);
        }
        let name = self.parameter_name();
        if name.is_empty() {
            return self.foreign(start);
        }
        if self.peek() == Some(b'}') {
            self.bump();
            return Ok(value_of(name));
        }
        let colon = self.peek() == Some(b':');
        if colon {
            self.bump();
        }
        let Some(operator) = self.peek() else {
            return Err(self.error("the script ends where \"}\" is missing"));
        };
        if !matches!(operator, b'-' | b'=' | b'?' | b'+')
            && (colon || !matches!(operator, b'#' | b'%'))
        {
            return self.foreign(start);
        }
        self.bump();
        let longest = matches!(operator, b'#' | b'%') && self.peek() == Some(operator);
        if longest {
            self.bump();
        }
        let trim = matches!(operator, b'#' | b'%');
        let inner = if context.double() && !trim {
            Context::DoubleBraced
        } else {
            Context::Braced
        };
        let word = Word(self.parts(inner)?);
        self.bump();
        Ok(parameter(
            name,
            match operator {
                b'-' => Operation::Default { word, colon },
                b'=' => Operation::Assign { word, colon },
                b'?' => Operation::Require { word, colon },
                b'+' => Operation::Alternative { word, colon },
                _ => Operation::Trim {
                    word,
                    suffix: operator == b'%',
                    longest,
                },
            },
        ))
    }

    fn parameter_name(&mut self) -> Vec<u8> {
        let rest = self.rest();
        let length = match rest.first() {
            Some(b'@' | b'*' | b'#' | b'?' | b'-' | b'$' | b'!') => 1,
            Some(byte) if byte.is_ascii_digit() => {
                rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
            }
            _ => rest.iter().take_while(|&&byte| is_name_byte(byte)).count(),
        };
        let name = rest.get(..length).unwrap_or_default().to_vec();
        self.skip(length);
        name
    }

    /// An expansion of another shell: skipped to its `}`, and an error when it is expanded.
    fn foreign(&mut self, start: usize) -> Parsed<Part> {
        self.parts(Context::Braced)?;
        let text = self.input.get(start..self.pos).unwrap_or_default();
        let text = format!("${{{}}}", String::from_utf8_lossy(text));
        self.bump();
        Ok(Part::Foreign(text))
    }
}

fn parameter(name: Vec<u8>, operation: Operation) -> Part {
    Part::Parameter(Box::new(Parameter { name, operation }))
}

fn value_of(name: Vec<u8>) -> Part {
    parameter(name, Operation::Value)
}
