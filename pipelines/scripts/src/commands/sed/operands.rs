//! What follows the commands of a sed script: texts, expressions and replacements.

use super::program::{Action, Flaw, Parsed, Parser, Piece};

impl Parser<'_> {
    /// The text of `a`, `i` and `c`: on the same line, or after a backslash and a newline.
    pub(super) fn inserted(&mut self, command: u8) -> Parsed<Vec<u8>> {
        self.skip(b" \t");
        let escaped = self.peek() == Some(b'\\');
        if self.peek() == Some(b'\\') {
            self.at = self.at.saturating_add(1);
            let before = self.at;
            self.skip(b" \t");
            if self.peek() == Some(b'\n') {
                self.at = self.at.saturating_add(1);
            } else {
                // "a\text": leading blanks after the backslash are kept.
                self.at = before;
            }
        }
        let mut out = Vec::new();
        loop {
            match self.next() {
                None | Some(b'\n') => break,
                Some(b'\\') => {
                    if let Some(next) = self.next() {
                        match next {
                            b't' => out.push(b'\t'),
                            b'n' | b'x' | b'o' | b'd' | b'c' | b'a' | b'f' | b'v' => {
                                return Err(Flaw::Unknown("an escape in inserted text".into()));
                            }
                            next => out.push(next),
                        }
                    }
                }
                Some(byte) => out.push(byte),
            }
        }
        if out.is_empty() {
            // "$a\\" only ends a last line that lacks its newline.
            if escaped && command == b'a' {
                return Ok(out);
            }
            return Err(Flaw::Bad("expected \\ after `a', `c' or `i'".into()));
        }
        out.push(b'\n');
        Ok(out)
    }

    pub(super) fn substitute(&mut self) -> Parsed<Action> {
        let delimiter = self
            .next()
            .filter(|byte| !b"\n\\".contains(byte))
            .ok_or_else(|| Flaw::Bad("unterminated `s' command".into()))?;
        let pattern = self.delimited(delimiter, true)?;
        let text = self.delimited(delimiter, false)?;
        let replacement = replacement(&text)?;
        let (mut global, mut number, mut print, mut ignore) = (false, 1_usize, false, false);
        loop {
            match self.peek() {
                Some(b'g') => global = true,
                Some(b'p') => print = true,
                Some(b'i' | b'I') => ignore = true,
                Some(b'0'..=b'9') => {
                    number = self.number().unwrap_or(0);
                    if number == 0 {
                        return Err(Flaw::Bad("number option to `s' may not be zero".into()));
                    }
                    continue;
                }
                Some(b'e' | b'w' | b'm' | b'M') => {
                    return Err(Flaw::Unknown("a flag of s".into()));
                }
                _ => break,
            }
            self.at = self.at.saturating_add(1);
        }
        let regex = self.regex(&pattern, ignore)?;
        let highest = replacement
            .iter()
            .filter_map(|piece| match piece {
                Piece::Group(group) => Some(*group),
                _ => None,
            })
            .max()
            .unwrap_or(0);
        if let Some(regex) = &regex
            && highest >= regex.groups()
        {
            return Err(Flaw::Bad("invalid reference on `s' command's RHS".into()));
        }
        Ok(Action::Substitute {
            regex,
            replacement,
            global,
            number,
            print,
        })
    }

    pub(super) fn map(&mut self) -> Parsed<Action> {
        let delimiter = self
            .next()
            .ok_or_else(|| Flaw::Bad("unterminated `y' command".into()))?;
        let from = unescape(&self.delimited(delimiter, false)?);
        let to = unescape(&self.delimited(delimiter, false)?);
        if from.len() != to.len() {
            return Err(Flaw::Bad(
                "strings for `y' command are different lengths".into(),
            ));
        }
        let mut map = Box::new([0_u8; 256]);
        for (place, byte) in map.iter_mut().zip(0..=255_u8) {
            *place = byte;
        }
        for (from, to) in from.into_iter().zip(to) {
            if let Some(place) = map.get_mut(usize::from(from)) {
                *place = to;
            }
        }
        Ok(Action::Map(map))
    }
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(other) => out.push(other),
            None => out.push(b'\\'),
        }
    }
    out
}

fn replacement(text: &[u8]) -> Parsed<Vec<Piece>> {
    let mut out: Vec<Piece> = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        let piece = match byte {
            b'&' => Piece::Group(0),
            b'\\' => match bytes.next() {
                Some(digit @ b'0'..=b'9') => Piece::Group(usize::from(digit.wrapping_sub(b'0'))),
                Some(case @ (b'U' | b'L' | b'u' | b'l' | b'E')) => Piece::Case(case),
                Some(b'n') => {
                    literal.push(b'\n');
                    continue;
                }
                Some(b't') => {
                    literal.push(b'\t');
                    continue;
                }
                Some(b'r') => {
                    literal.push(b'\r');
                    continue;
                }
                Some(b'x' | b'o' | b'd' | b'c' | b'a' | b'f' | b'v') => {
                    return Err(Flaw::Unknown("an escape in the replacement".into()));
                }
                Some(other) => {
                    literal.push(other);
                    continue;
                }
                None => {
                    literal.push(b'\\');
                    continue;
                }
            },
            byte => {
                literal.push(byte);
                continue;
            }
        };
        if !literal.is_empty() {
            out.push(Piece::Text(std::mem::take(&mut literal)));
        }
        out.push(piece);
    }
    if !literal.is_empty() {
        out.push(Piece::Text(literal));
    }
    Ok(out)
}
