//! Functions of awk, and formatted output.

use super::program::Expression;
use super::run::{Did, Machine, refuse};
use super::value::Value;

impl Machine<'_, '_> {
    pub(super) fn call(&mut self, name: &[u8], arguments: &[Expression]) -> Did<Value> {
        let count =
            |count: usize| Value::Number(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        Ok(match (name, arguments.len()) {
            (b"length", 0) => count(self.record.len()),
            (b"length", 1) => {
                if let Some(Expression::Variable(name)) = arguments.first()
                    && let Some(array) = self.arrays.get(name)
                {
                    return Ok(count(array.len()));
                }
                count(self.argument_text(arguments, 0)?.len())
            }
            (b"substr", 2 | 3) => {
                let text = self.argument_text(arguments, 0)?;
                let mut numbers = Vec::new();
                for argument in arguments.get(1..).unwrap_or_default() {
                    numbers.push(self.evaluate(argument)?.number());
                }
                let start = numbers.first().copied().unwrap_or(1.0).round();
                if start < 1.0 {
                    return refuse("takes a part before the first character, where awks differ");
                }
                let end = match numbers.get(1) {
                    Some(length) => start + length.round(),
                    None => f64::INFINITY,
                };
                let part: Vec<u8> = text
                    .iter()
                    .enumerate()
                    .filter(|&(index, _)| {
                        let at = f64::from(u32::try_from(index).unwrap_or(u32::MAX)) + 1.0;
                        at >= start && at < end
                    })
                    .map(|(_, &byte)| byte)
                    .collect();
                Value::String(part)
            }
            (b"index", 2) => {
                let text = self.argument_text(arguments, 0)?;
                let wanted = self.argument_text(arguments, 1)?;
                if wanted.is_empty() {
                    return Ok(Value::Number(0.0));
                }
                let at = text.windows(wanted.len()).position(|part| part == wanted);
                count(at.map_or(0, |at| at.saturating_add(1)))
            }
            (b"tolower", 1) => {
                Value::String(self.argument_text(arguments, 0)?.to_ascii_lowercase())
            }
            (b"toupper", 1) => {
                Value::String(self.argument_text(arguments, 0)?.to_ascii_uppercase())
            }
            (b"int", 1) => match arguments.first() {
                Some(argument) => Value::Number(self.evaluate(argument)?.number().trunc()),
                None => Value::Number(0.0),
            },
            (b"sprintf", 1..) => Value::String(self.format(arguments)?),
            (b"split", 2 | 3) => {
                let text = self.argument_text(arguments, 0)?;
                let Some(Expression::Variable(array)) = arguments.get(1) else {
                    return refuse("splits into what is no array");
                };
                let separator = match arguments.get(2) {
                    Some(Expression::Regex(_)) => return refuse("splits at an expression"),
                    Some(other) => {
                        let value = self.evaluate(other)?;
                        self.text(&value)?
                    }
                    None => self.string("FS")?,
                };
                let parts = self.split_text(&text, &separator)?;
                let total = parts.len();
                let elements = parts
                    .into_iter()
                    .enumerate()
                    .map(|(index, part)| {
                        let key = index.saturating_add(1).to_string().into_bytes();
                        (key, Value::Input(part))
                    })
                    .collect();
                self.arrays.insert(array.clone(), elements);
                count(total)
            }
            (b"match", 2) => {
                let text = self.argument_text(arguments, 0)?;
                let Some(pattern) = arguments.get(1) else {
                    return refuse("matches nothing");
                };
                let regex = self.regex_of(pattern)?;
                let found = regex.find(&text, 0, &mut self.shell.files.budget)?;
                let whole = found.and_then(|captures| captures.first().copied().flatten());
                let (start, length) = match whole {
                    Some((begin, end)) => (
                        count(begin.saturating_add(1)),
                        count(end.saturating_sub(begin)),
                    ),
                    None => (Value::Number(0.0), Value::Number(-1.0)),
                };
                self.set("RSTART", start.clone());
                self.set("RLENGTH", length);
                start
            }
            (b"sub" | b"gsub", 2 | 3) => self.substitute(arguments, name == b"gsub")?,
            _ => {
                return refuse(format!(
                    "the function {} is not interpreted",
                    String::from_utf8_lossy(name)
                ));
            }
        })
    }

    fn substitute(&mut self, arguments: &[Expression], global: bool) -> Did<Value> {
        let Some(pattern) = arguments.first() else {
            return refuse("substitutes nothing");
        };
        let regex = self.regex_of(pattern)?;
        let replacement = self.argument_text(arguments, 1)?;
        let whole = Expression::Field(Box::new(Expression::Number(0.0)));
        let place = arguments.get(2).unwrap_or(&whole);
        let value = self.evaluate(place)?;
        let text = self.text(&value)?;
        let mut out = Vec::new();
        let mut at = 0_usize;
        let mut count = 0.0_f64;
        let mut last_end = None;
        while at <= text.len() {
            let Some(captures) = regex.find(&text, at, &mut self.shell.files.budget)? else {
                break;
            };
            let Some(Some((begin, end))) = captures.first().copied() else {
                break;
            };
            out.extend_from_slice(text.get(at..begin).unwrap_or_default());
            if end > begin || last_end != Some(begin) {
                count += 1.0;
                let mut bytes = replacement.iter().copied().peekable();
                while let Some(byte) = bytes.next() {
                    match (byte, bytes.peek()) {
                        (b'\\', Some(&next)) if matches!(next, b'&' | b'\\') => {
                            bytes.next();
                            out.push(next);
                        }
                        (b'&', _) => {
                            out.extend_from_slice(text.get(begin..end).unwrap_or_default());
                        }
                        (byte, _) => out.push(byte),
                    }
                }
                last_end = Some(end);
            }
            if end > begin {
                at = end;
            } else {
                out.extend(text.get(begin));
                at = begin.saturating_add(1);
            }
            self.shell
                .files
                .budget
                .object(u64::try_from(out.len()).unwrap_or(u64::MAX))?;
            if !global {
                break;
            }
        }
        out.extend_from_slice(text.get(at.min(text.len())..).unwrap_or_default());
        if count > 0.0 {
            self.store(place, Value::String(out))?;
        }
        Ok(Value::Number(count))
    }

    pub(super) fn format(&mut self, values: &[Expression]) -> Did<Vec<u8>> {
        let format = self.argument_text(values, 0)?;
        let mut next = 1_usize;
        let mut out = Vec::new();
        let mut bytes = format.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                out.push(byte);
                continue;
            }
            if bytes.peek() == Some(&b'%') {
                bytes.next();
                out.push(b'%');
                continue;
            }
            let mut flags = Vec::new();
            while let Some(flag) = bytes.next_if(|byte| b"-0".contains(byte)) {
                flags.push(flag);
            }
            let mut width = 0_usize;
            while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
                width = width
                    .saturating_mul(10)
                    .saturating_add(usize::from(digit.wrapping_sub(b'0')))
                    .min(10_000);
            }
            let argument = values.get(next);
            next = next.saturating_add(1);
            let value = match argument {
                Some(argument) => self.evaluate(argument)?,
                None => Value::Unset,
            };
            let text = match bytes.next() {
                Some(b's') => self.text(&value)?,
                Some(b'd' | b'i') => value.integer().to_string().into_bytes(),
                Some(b'c') => match &value {
                    Value::Number(_) => return refuse("prints a character by its number"),
                    other => self.text(other)?.get(..1).unwrap_or_default().to_vec(),
                },
                Some(b'x') => format!("{:x}", value.integer()).into_bytes(),
                Some(b'o') => format!("{:o}", value.integer()).into_bytes(),
                _ => return refuse("the format is not interpreted"),
            };
            let padding = width.saturating_sub(text.len());
            if flags.contains(&b'-') {
                out.extend_from_slice(&text);
                out.extend(std::iter::repeat_n(b' ', padding));
            } else if flags.contains(&b'0') && !text.starts_with(b"-") {
                out.extend(std::iter::repeat_n(b'0', padding));
                out.extend_from_slice(&text);
            } else {
                out.extend(std::iter::repeat_n(b' ', padding));
                out.extend_from_slice(&text);
            }
        }
        Ok(out)
    }
}
