//! The text in which a volume group describes itself (lvm2's `lib/config/config.c`): nested sections of `key = value`, a
//! value being an integer, a string or a list of both.

use std::collections::BTreeMap;

use dormouse_block::{Error, Result};

/// Nesting of sections; volume groups have three levels.
const MAX_DEPTH: usize = 8;
/// Keys, sections and list items together: a volume group of 10,000 volumes has some 200,000.
const MAX_NODES: usize = 1_000_000;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
    List(Vec<Value>),
}

/// A section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Section {
    values: BTreeMap<String, Value>,
    sections: BTreeMap<String, Section>,
}

impl Section {
    /// Parses the whole text.
    ///
    /// # Errors
    /// `Corrupt` for what is not such a text, `Limit` for one that is nested or long beyond reason.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let mut parser = Parser {
            text,
            at: 0,
            nodes: 0,
        };
        let section = parser.section(0)?;
        if parser.peek().is_some() {
            return Err(parser.wrong("a section ends that did not begin"));
        }
        Ok(section)
    }

    pub(super) fn sections(&self) -> &BTreeMap<String, Self> {
        &self.sections
    }

    pub(super) fn section(&self, name: &str) -> Option<&Self> {
        self.sections.get(name)
    }

    /// The string `name`.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub(super) fn text(&self, name: &str) -> Result<&str> {
        match self.values.get(name) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(Error::corrupt(format!("the text {name} is missing"))),
        }
    }

    /// The integer `name`, if it is there.
    ///
    /// # Errors
    /// `Corrupt` when it is negative or no integer.
    pub(super) fn optional(&self, name: &str) -> Result<Option<u64>> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => u64::try_from(*number)
                .map(Some)
                .map_err(|_| Error::corrupt(format!("a {name} of {number} is impossible"))),
            Some(_) => Err(Error::corrupt(format!("the number {name} is none"))),
        }
    }

    /// The integer `name`.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub(super) fn number(&self, name: &str) -> Result<u64> {
        self.optional(name)?
            .ok_or_else(|| Error::corrupt(format!("the number {name} is missing")))
    }

    /// The list `name`; empty when there is none.
    pub(super) fn list(&self, name: &str) -> &[Value] {
        match self.values.get(name) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// Whether the list `name` holds the string `wanted`.
    pub(super) fn lists(&self, name: &str, wanted: &str) -> bool {
        self.list(name)
            .iter()
            .any(|value| matches!(value, Value::Text(text) if text == wanted))
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    nodes: usize,
}

impl Parser<'_> {
    fn wrong(&self, what: &str) -> Error {
        let at = u64::try_from(self.at).unwrap_or(u64::MAX);
        Error::corrupt(format!("{what} in the metadata text")).at_offset(at)
    }

    fn count(&mut self) -> Result<()> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(Error::limit(format!(
                "more than the {MAX_NODES} values allowed in the metadata text"
            )));
        }
        Ok(())
    }

    /// The next byte that is neither blank nor part of a comment. NUL ends the text.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.text.get(self.at).copied().filter(|byte| *byte != 0)?;
            if byte == b'#' {
                while self.text.get(self.at).is_some_and(|byte| *byte != b'\n') {
                    self.at = self.at.saturating_add(1);
                }
            } else if byte.is_ascii_whitespace() {
                self.at = self.at.saturating_add(1);
            } else {
                return Some(byte);
            }
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        let here = self.peek() == Some(wanted);
        if here {
            self.at = self.at.saturating_add(1);
        }
        here
    }

    fn word(&mut self) -> Result<&str> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|byte| {
                byte.is_ascii_whitespace()
                    || matches!(
                        byte,
                        0 | b'=' | b'{' | b'}' | b'[' | b']' | b',' | b'"' | b'#'
                    )
            })
            .unwrap_or(rest.len());
        if len == 0 {
            return Err(self.wrong("a word is missing"));
        }
        self.at = self.at.saturating_add(len);
        let word = rest.get(..len).unwrap_or_default();
        std::str::from_utf8(word)
            .map_err(|_| Error::corrupt("a word of the metadata text is no text"))
    }

    fn section(&mut self, depth: usize) -> Result<Section> {
        if depth > MAX_DEPTH {
            return Err(Error::limit(format!(
                "sections of the metadata text are nested more than {MAX_DEPTH} deep"
            )));
        }
        let mut section = Section::default();
        while self.peek().is_some_and(|byte| byte != b'}') {
            self.count()?;
            let name = self.word()?.to_owned();
            if self.take(b'{') {
                let inner = self.section(depth.saturating_add(1))?;
                if !self.take(b'}') {
                    return Err(self.wrong("a section does not end"));
                }
                if section.sections.insert(name, inner).is_some() {
                    return Err(self.wrong("a section stands twice"));
                }
            } else if self.take(b'=') {
                let value = self.value()?;
                section.values.insert(name, value);
            } else {
                return Err(self.wrong("a value is missing"));
            }
        }
        Ok(section)
    }

    fn value(&mut self) -> Result<Value> {
        if !self.take(b'[') {
            return self.scalar();
        }
        let mut list = Vec::new();
        while !self.take(b']') {
            self.count()?;
            list.push(self.scalar()?);
            if !self.take(b',') && self.peek() != Some(b']') {
                return Err(self.wrong("a list does not end"));
            }
        }
        Ok(Value::List(list))
    }

    fn scalar(&mut self) -> Result<Value> {
        if self.take(b'"') {
            return self.string().map(Value::Text);
        }
        let word = self.word()?;
        match word.parse() {
            Ok(number) => Ok(Value::Number(number)),
            // Floating-point numbers stand in comments' company only; nothing that is read here is one.
            Err(_) => Ok(Value::Text(word.to_owned())),
        }
    }

    /// The rest of a string, in which a backslash goes before quotes and backslashes.
    fn string(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        loop {
            let byte = self.text.get(self.at).copied();
            self.at = self.at.saturating_add(1);
            match byte {
                None | Some(0) => return Err(self.wrong("a string does not end")),
                Some(b'"') => break,
                Some(b'\\') => {
                    bytes.extend(self.text.get(self.at).copied());
                    self.at = self.at.saturating_add(1);
                }
                Some(byte) => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.wrong("a string is no text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_lists_comments_and_escapes() {
        let text = b"vg {\n# comment\nid = \"a\\\"b\"\nseqno = 3 # three\nlist = [\"x\", 0,\n \"y\", 1]\nempty=[]\nsub { n = -1 }\n}\nversion = 1\n\0rubbish";
        let root = Section::parse(text).unwrap();
        let vg = root.section("vg").unwrap();
        assert_eq!(vg.text("id").unwrap(), "a\"b");
        assert_eq!(vg.number("seqno").unwrap(), 3);
        assert_eq!(vg.list("list").len(), 4);
        assert!(vg.list("empty").is_empty());
        assert!(vg.section("sub").unwrap().number("n").is_err());
    }

    #[test]
    fn broken_texts_are_errors() {
        for text in [
            "a {",
            "a",
            "a =",
            "a = [1",
            "a = \"x",
            "}",
            "a {} a {}",
            "a = [1 2]",
        ] {
            assert!(Section::parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = "a {".repeat(100);
        assert!(Section::parse(deep.as_bytes()).is_err());
    }
}
