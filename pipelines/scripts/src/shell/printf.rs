//! `printf`.

use super::Shell;
use super::builtins::unescape;
use crate::stop::Run;

/// Widest field.
const MAX_WIDTH: usize = 10_000;

struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

pub(crate) fn printf(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut rest = arguments.get(1..).unwrap_or_default();
    if rest.first().is_some_and(|first| first == b"--") {
        rest = rest.get(1..).unwrap_or_default();
    }
    let Some(format) = rest.first() else {
        shell.complain(b"printf", "usage: printf format [arg ...]")?;
        return Ok(2);
    };
    if format == b"-v" {
        return shell.usage(b"printf", "\"-v\" is not POSIX");
    }
    let mut values = rest.get(1..).unwrap_or_default().iter();
    let mut out = Vec::new();
    let mut status = 0;
    loop {
        shell.files.budget.step(1)?;
        let before = values.len();
        let goes_on = match once(format, &mut values, &mut out, &mut status) {
            Ok(goes_on) => goes_on,
            Err(why) => return shell.usage(b"printf", why),
        };
        shell
            .files
            .budget
            .object(u64::try_from(out.len()).unwrap_or(u64::MAX))?;
        if !goes_on || values.len() == 0 || values.len() == before {
            break;
        }
    }
    shell.out(&out)?;
    Ok(status)
}

fn digits(format: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = None;
    while let Some(&byte) = format.get(*at).filter(|byte| byte.is_ascii_digit()) {
        let digit = usize::from(byte.wrapping_sub(b'0'));
        value = Some(
            value
                .unwrap_or(0_usize)
                .saturating_mul(10)
                .saturating_add(digit)
                .min(MAX_WIDTH),
        );
        *at = at.saturating_add(1);
    }
    value
}

/// Goes through the format once; false when `\c` ends the output.
fn once(
    format: &[u8],
    values: &mut std::slice::Iter<'_, Vec<u8>>,
    out: &mut Vec<u8>,
    status: &mut i32,
) -> Result<bool, &'static str> {
    let mut at = 0_usize;
    while let Some(&byte) = format.get(at) {
        at = at.saturating_add(1);
        if byte == b'\\' {
            let Some(&next) = format.get(at) else {
                out.push(b'\\');
                break;
            };
            if (b'0'..=b'7').contains(&next) {
                let mut value = 0_u32;
                for _ in 0..3 {
                    let Some(&digit @ b'0'..=b'7') = format.get(at) else {
                        break;
                    };
                    at = at.saturating_add(1);
                    value = (value << 3) | u32::from(digit.wrapping_sub(b'0'));
                }
                out.push(u8::try_from(value & 0xff).unwrap_or(0));
                continue;
            }
            at = at.saturating_add(1);
            match next {
                b'"' | b'\'' => out.push(next),
                b'c' => return Ok(false),
                _ => {
                    unescape(&[b'\\', next], out);
                }
            }
            continue;
        }
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        if format.get(at) == Some(&b'%') {
            at = at.saturating_add(1);
            out.push(b'%');
            continue;
        }
        let mut conversion = Conversion {
            left: false,
            plus: false,
            space: false,
            zero: false,
            alternate: false,
            width: 0,
            precision: None,
        };
        while let Some(flag) = format.get(at) {
            match flag {
                b'-' => conversion.left = true,
                b'+' => conversion.plus = true,
                b' ' => conversion.space = true,
                b'0' => conversion.zero = true,
                b'#' => conversion.alternate = true,
                _ => break,
            }
            at = at.saturating_add(1);
        }
        if format.get(at) == Some(&b'*') {
            at = at.saturating_add(1);
            let width = integer(values.next(), status);
            conversion.left |= width < 0;
            conversion.width = usize::try_from(width.unsigned_abs())
                .unwrap_or(MAX_WIDTH)
                .min(MAX_WIDTH);
        } else {
            conversion.width = digits(format, &mut at).unwrap_or(0);
        }
        if format.get(at) == Some(&b'.') {
            at = at.saturating_add(1);
            conversion.precision = if format.get(at) == Some(&b'*') {
                at = at.saturating_add(1);
                usize::try_from(integer(values.next(), status))
                    .ok()
                    .map(|precision| precision.min(MAX_WIDTH))
            } else {
                Some(digits(format, &mut at).unwrap_or(0))
            };
        }
        let Some(&letter) = format.get(at) else {
            return Err("the format ends in a conversion");
        };
        at = at.saturating_add(1);
        match letter {
            b's' => {
                let value = values.next().map(Vec::as_slice).unwrap_or_default();
                conversion.text(value, out);
            }
            b'b' => {
                let mut text = Vec::new();
                let value = values.next().map(Vec::as_slice).unwrap_or_default();
                let goes_on = unescape(value, &mut text);
                conversion.text(&text, out);
                if !goes_on {
                    return Ok(false);
                }
            }
            b'c' => {
                let value = values.next().map(Vec::as_slice).unwrap_or_default();
                conversion.precision = None;
                conversion.text(value.get(..1).unwrap_or_default(), out);
            }
            b'd' | b'i' => {
                let value = integer(values.next(), status);
                let sign: &[u8] = if value < 0 {
                    b"-"
                } else if conversion.plus {
                    b"+"
                } else if conversion.space {
                    b" "
                } else {
                    b""
                };
                conversion.number(sign, &value.unsigned_abs().to_string(), out);
            }
            b'u' | b'x' | b'X' | b'o' => {
                let value = u64::from_ne_bytes(integer(values.next(), status).to_ne_bytes());
                let (prefix, text): (&[u8], String) = match letter {
                    b'u' => (b"", value.to_string()),
                    b'x' => (b"0x", format!("{value:x}")),
                    b'X' => (b"0X", format!("{value:X}")),
                    _ => (b"0", format!("{value:o}")),
                };
                let prefix = if conversion.alternate && value != 0 {
                    prefix
                } else {
                    b""
                };
                conversion.number(prefix, &text, out);
            }
            _ => return Err("the conversion is not interpreted"),
        }
    }
    Ok(true)
}

impl Conversion {
    fn pad(&self, length: usize, fill: u8, out: &mut Vec<u8>) {
        for _ in length..self.width {
            out.push(fill);
        }
    }

    fn text(&self, value: &[u8], out: &mut Vec<u8>) {
        let length = self.precision.unwrap_or(value.len()).min(value.len());
        let value = value.get(..length).unwrap_or_default();
        if !self.left {
            self.pad(length, b' ', out);
        }
        out.extend_from_slice(value);
        if self.left {
            self.pad(length, b' ', out);
        }
    }

    fn number(&self, prefix: &[u8], digits: &str, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
        body.extend(std::iter::repeat_n(b'0', zeros));
        body.extend_from_slice(digits.as_bytes());
        let length = prefix.len().saturating_add(body.len());
        let zeros = self.zero && !self.left && self.precision.is_none();
        if !self.left && !zeros {
            self.pad(length, b' ', out);
        }
        out.extend_from_slice(prefix);
        if zeros {
            self.pad(length, b'0', out);
        }
        out.extend_from_slice(&body);
        if self.left {
            self.pad(length, b' ', out);
        }
    }
}

/// The value of a numeric argument; a bad one counts as far as it can be read and fails the command.
fn integer(argument: Option<&Vec<u8>>, status: &mut i32) -> i64 {
    let Some(text) = argument else { return 0 };
    if let Some((b'\'' | b'"', rest)) = text.split_first() {
        return rest.first().map_or(0, |&byte| i64::from(byte));
    }
    if text.is_empty() {
        return 0;
    }
    match super::arithmetic::integer(text) {
        Some(value) => value,
        None => {
            *status = 1;
            let length = text
                .iter()
                .enumerate()
                .take_while(|&(index, byte)| byte.is_ascii_digit() || (index == 0 && *byte == b'-'))
                .count();
            text.get(..length)
                .and_then(super::arithmetic::integer)
                .unwrap_or(0)
        }
    }
}
