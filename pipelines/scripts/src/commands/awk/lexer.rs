//! Tokens of awk.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(f64),
    String(Vec<u8>),
    Regex(Vec<u8>),
    Name(Vec<u8>),
    /// A name directly before a parenthesis.
    Function(Vec<u8>),
    /// Operators and punctuation; newlines and semicolons are `";"`.
    Operator(&'static str),
    End,
}

const OPERATORS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "+=", "-=", "*=", "/=", "%=", "^=", "++", "--", ">>", "!~",
    "{", "}", "(", ")", "[", "]", ";", ",", "+", "-", "*", "/", "%", "^", "!", "<", ">", "|", "?",
    ":", "~", "$", "=",
];

/// Splits a program into tokens.
pub(super) fn tokens(text: &[u8]) -> Result<Vec<Token>, String> {
    let mut out: Vec<Token> = Vec::new();
    let mut at = 0_usize;
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' => at = at.saturating_add(1),
            b'\\' if text.get(at.saturating_add(1)) == Some(&b'\n') => at = at.saturating_add(2),
            b'#' => {
                while text.get(at).is_some_and(|&byte| byte != b'\n') {
                    at = at.saturating_add(1);
                }
            }
            b'\n' => {
                out.push(Token::Operator(";"));
                at = at.saturating_add(1);
            }
            b'"' => {
                let (string, next) = quoted(text, at.saturating_add(1), b'"')?;
                out.push(Token::String(super::unescape(&string)));
                at = next;
            }
            b'/' if regex_may_begin(out.last()) => {
                let (pattern, next) = quoted(text, at.saturating_add(1), b'/')?;
                // An escaped slash is a slash.
                let mut plain = Vec::new();
                let mut bytes = pattern.into_iter().peekable();
                while let Some(byte) = bytes.next() {
                    if byte == b'\\' && bytes.peek() == Some(&b'/') {
                        continue;
                    }
                    plain.push(byte);
                    if byte == b'\\' {
                        plain.extend(bytes.next());
                    }
                }
                out.push(Token::Regex(plain));
                at = next;
            }
            b'0'..=b'9' | b'.' => {
                let rest = text.get(at..).unwrap_or_default();
                let length = super::value::number_length(rest);
                if length == 0 {
                    return Err("a character is not interpreted".into());
                }
                let digits = rest.get(..length).unwrap_or_default();
                out.push(Token::Number(super::value::number(digits)));
                at = at.saturating_add(length);
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let rest = text.get(at..).unwrap_or_default();
                let length = rest
                    .iter()
                    .position(|&byte| byte != b'_' && !byte.is_ascii_alphanumeric())
                    .unwrap_or(rest.len());
                let name = rest.get(..length).unwrap_or_default().to_vec();
                at = at.saturating_add(length);
                out.push(if text.get(at) == Some(&b'(') {
                    Token::Function(name)
                } else {
                    Token::Name(name)
                });
            }
            _ => {
                let rest = text.get(at..).unwrap_or_default();
                let operator = OPERATORS
                    .iter()
                    .find(|operator| rest.starts_with(operator.as_bytes()))
                    .ok_or("a character is not interpreted")?;
                out.push(Token::Operator(operator));
                at = at.saturating_add(operator.len());
            }
        }
    }
    out.push(Token::End);
    Ok(out)
}

fn regex_may_begin(last: Option<&Token>) -> bool {
    !matches!(
        last,
        Some(
            Token::Number(_)
                | Token::String(_)
                | Token::Regex(_)
                | Token::Name(_)
                | Token::Operator(")" | "]" | "$" | "++" | "--")
        )
    )
}

fn quoted(text: &[u8], start: usize, end: u8) -> Result<(Vec<u8>, usize), String> {
    let mut out = Vec::new();
    let mut at = start;
    loop {
        match text.get(at) {
            None | Some(b'\n') => return Err("a string is not closed".into()),
            Some(&byte) if byte == end => return Ok((out, at.saturating_add(1))),
            Some(b'\\') => {
                out.push(b'\\');
                out.extend(text.get(at.saturating_add(1)));
                at = at.saturating_add(2);
            }
            Some(&byte) => {
                out.push(byte);
                at = at.saturating_add(1);
            }
        }
    }
}
