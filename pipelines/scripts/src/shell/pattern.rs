//! Patterns of `case`, `${name#pattern}` and file names (POSIX, 2.13).

#[derive(Debug, Clone)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class { negated: bool, items: Vec<Item> },
}

#[derive(Debug, Clone)]
enum Item {
    Range(u8, u8),
    Named(fn(u8) -> bool),
}

/// A compiled pattern.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pattern(Vec<Token>);

/// The character class `[:name:]` in the C locale.
pub(crate) fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"space" => |byte| matches!(byte, b' ' | 9..=13),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"print" => |byte| (32..127).contains(&byte),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

impl Pattern {
    /// Compiles bytes, each of which may be quoted.
    pub(crate) fn new(bytes: &[(u8, bool)]) -> Self {
        let mut tokens = Vec::new();
        let mut at = 0_usize;
        while let Some(&(byte, quoted)) = bytes.get(at) {
            at = at.saturating_add(1);
            let token = match byte {
                _ if quoted => Token::Byte(byte),
                b'?' => Token::Any,
                b'*' => {
                    if matches!(tokens.last(), Some(Token::Star)) {
                        continue;
                    }
                    Token::Star
                }
                b'[' => match bracket(bytes, at) {
                    Some((token, next)) => {
                        at = next;
                        token
                    }
                    None => Token::Byte(b'['),
                },
                b'\\' => match bytes.get(at) {
                    Some(&(next, _)) => {
                        at = at.saturating_add(1);
                        Token::Byte(next)
                    }
                    None => Token::Byte(b'\\'),
                },
                _ => Token::Byte(byte),
            };
            tokens.push(token);
        }
        Self(tokens)
    }

    /// Compiles a pattern none of whose bytes is quoted.
    pub(crate) fn plain(bytes: &[u8]) -> Self {
        Self::new(&bytes.iter().map(|&byte| (byte, false)).collect::<Vec<_>>())
    }

    /// The bytes it stands for when nothing in it is special.
    pub(crate) fn literal(&self) -> Option<Vec<u8>> {
        self.0
            .iter()
            .map(|token| match token {
                Token::Byte(byte) => Some(*byte),
                _ => None,
            })
            .collect()
    }

    /// Whether a leading dot is matched by a dot of the pattern.
    pub(crate) fn begins_with_dot(&self) -> bool {
        matches!(self.0.first(), Some(Token::Byte(b'.')))
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let (mut token, mut at) = (0_usize, 0_usize);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let matched = match (self.0.get(token), text.get(at)) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    retry = Some((token, at));
                    token = token.saturating_add(1);
                    continue;
                }
                (Some(expected), Some(&byte)) => expected.accepts(byte),
                (None, Some(_)) | (Some(_), None) => false,
            };
            if matched {
                token = token.saturating_add(1);
                at = at.saturating_add(1);
                continue;
            }
            match retry {
                Some((star, from)) if from < text.len() => {
                    retry = Some((star, from.saturating_add(1)));
                    token = star.saturating_add(1);
                    at = from.saturating_add(1);
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Byte(expected) => *expected == byte,
            Self::Any => true,
            Self::Star => false,
            Self::Class { negated, items } => {
                *negated
                    != items.iter().any(|item| match item {
                        Item::Range(low, high) => (*low..=*high).contains(&byte),
                        Item::Named(class) => class(byte),
                    })
            }
        }
    }
}

/// The bracket expression whose `[` is just before `at`, and where it ends.
fn bracket(bytes: &[(u8, bool)], mut at: usize) -> Option<(Token, usize)> {
    let byte_at = |at: usize| bytes.get(at).copied();
    let negated = matches!(byte_at(at)?, (b'!' | b'^', false));
    if negated {
        at = at.checked_add(1)?;
    }
    let mut items = Vec::new();
    let mut first = true;
    loop {
        let (mut byte, mut quoted) = byte_at(at)?;
        if byte == b']' && !quoted && !first {
            return Some((Token::Class { negated, items }, at.checked_add(1)?));
        }
        first = false;
        if byte == b'/' {
            return None;
        }
        if byte == b'[' && !quoted && byte_at(at.checked_add(1)?) == Some((b':', false)) {
            let start = at.checked_add(2)?;
            let rest = bytes.get(start..)?;
            let length = rest
                .windows(2)
                .position(|pair| matches!(pair, [(b':', _), (b']', _)]))?;
            let name: Vec<u8> = rest.get(..length)?.iter().map(|&(byte, _)| byte).collect();
            items.push(Item::Named(class(&name)?));
            at = start.checked_add(length)?.checked_add(2)?;
            continue;
        }
        if byte == b'\\' && !quoted {
            at = at.checked_add(1)?;
            (byte, quoted) = byte_at(at)?;
            let _ = quoted;
        }
        at = at.checked_add(1)?;
        let ranges = byte_at(at) == Some((b'-', false))
            && byte_at(at.checked_add(1)?).is_some_and(|(end, quoted)| end != b']' || quoted);
        if ranges {
            at = at.checked_add(1)?;
            let (mut end, quoted) = byte_at(at)?;
            if end == b'\\' && !quoted {
                at = at.checked_add(1)?;
                (end, _) = byte_at(at)?;
            }
            at = at.checked_add(1)?;
            items.push(Item::Range(byte, end));
        } else {
            items.push(Item::Range(byte, byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_classes_and_escapes_match_as_in_the_c_locale() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[[:digit:]]?", "4x", true),
            ("[!a-c]", "d", true),
            ("[!a-c]", "b", false),
            ("[]x]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*.conf", ".conf", true),
        ] {
            assert_eq!(
                Pattern::plain(pattern.as_bytes()).matches(text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }
}
