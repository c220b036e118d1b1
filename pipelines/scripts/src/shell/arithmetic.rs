//! Arithmetic expansion (POSIX, 2.6.4): signed 64-bit integers that wrap.

use super::Shell;
use crate::stop::{Run, Stop};
use crate::syntax::{is_name, is_name_byte};

/// Deepest nesting of an expression.
const MAX_DEPTH: u32 = 60;

struct Evaluator<'s, 'a, 'e> {
    shell: &'s mut Shell<'a>,
    rest: &'e [u8],
    depth: u32,
    /// Whether the part at hand counts: it does not after `0 &&`.
    live: bool,
}

enum Failure {
    Bad(&'static str),
    Stop(Stop),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

type Value = Result<i64, Failure>;

/// Binary operators and how tightly they bind, longest spelling first.
const OPERATORS: &[(&[u8], u8)] = &[
    (b"||", 1),
    (b"&&", 2),
    (b"<<", 8),
    (b">>", 8),
    (b"<=", 7),
    (b">=", 7),
    (b"==", 6),
    (b"!=", 6),
    (b"|", 3),
    (b"^", 4),
    (b"&", 5),
    (b"<", 7),
    (b">", 7),
    (b"+", 9),
    (b"-", 9),
    (b"*", 10),
    (b"/", 10),
    (b"%", 10),
];

impl Shell<'_> {
    /// The value of `expression`; a bad one ends the shell.
    pub(crate) fn arithmetic(&mut self, expression: &[u8]) -> Run<i64> {
        self.files.budget.bytes_of(expression)?;
        let mut evaluator = Evaluator {
            shell: self,
            rest: expression,
            depth: 0,
            live: true,
        };
        evaluator.spaces();
        if evaluator.rest.is_empty() {
            return Ok(0);
        }
        let result = evaluator.comma();
        let left = evaluator.rest;
        match result {
            Ok(value) if left.is_empty() => Ok(value),
            Ok(_) => self.bad_arithmetic("syntax error"),
            Err(Failure::Bad(why)) => self.bad_arithmetic(why),
            Err(Failure::Stop(stop)) => Err(stop),
        }
    }

    fn bad_arithmetic(&mut self, why: &str) -> Run<i64> {
        self.complain(b"sh", format!("arithmetic expression: {why}"))?;
        Err(Stop::Exit(2))
    }
}

/// A number as the shell writes it: decimal, `0x` hexadecimal or `0` octal.
fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (digits, radix) = if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        (hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (text, 8)
    } else {
        (text, 10)
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    match i64::from_str_radix(digits, radix) {
        Ok(value) => Some(value),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => Some(i64::MAX),
        Err(_) => None,
    }
}

/// The value of a variable used as a number: blanks around it and a sign are allowed.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Some(0);
    }
    match text.split_first() {
        Some((b'-', rest)) => number(rest).map(i64::wrapping_neg),
        Some((b'+', rest)) => number(rest),
        _ => number(text),
    }
}

impl Evaluator<'_, '_, '_> {
    fn spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, token: &[u8]) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                self.spaces();
                true
            }
            None => false,
        }
    }

    fn comma(&mut self) -> Value {
        self.assignment()
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Value) -> Value {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(Failure::Bad("nested too deep"));
        }
        self.shell.files.budget.step(1)?;
        let value = inner(self);
        self.depth = self.depth.saturating_sub(1);
        value
    }

    fn name(&self) -> &[u8] {
        let length = self
            .rest
            .iter()
            .position(|&byte| !is_name_byte(byte))
            .unwrap_or(self.rest.len());
        let name = self.rest.get(..length).unwrap_or_default();
        if is_name(name) { name } else { &[] }
    }

    fn assignment(&mut self) -> Value {
        self.nested(|this| {
            let name = this.name().to_vec();
            if !name.is_empty() {
                let before = this.rest;
                this.rest = this.rest.get(name.len()..).unwrap_or_default();
                this.spaces();
                for operator in [
                    &b"="[..],
                    b"+=",
                    b"-=",
                    b"*=",
                    b"/=",
                    b"%=",
                    b"<<=",
                    b">>=",
                    b"&=",
                    b"|=",
                    b"^=",
                ] {
                    let plain_equality = operator == b"=" && this.rest.starts_with(b"==");
                    if !plain_equality && this.take(operator) {
                        let right = this.assignment()?;
                        let operator = operator.strip_suffix(b"=").unwrap_or_default();
                        let value = if operator.is_empty() {
                            right
                        } else {
                            let left = this.variable(&name)?;
                            this.apply(operator, left, right)?
                        };
                        if this.live {
                            this.shell.assign(&name, value.to_string().as_bytes())?;
                        }
                        return Ok(value);
                    }
                }
                this.rest = before;
            }
            this.ternary()
        })
    }

    fn ternary(&mut self) -> Value {
        let condition = self.binary(1)?;
        if !self.take(b"?") {
            return Ok(condition);
        }
        let live = self.live;
        self.live = live && condition != 0;
        let yes = self.assignment()?;
        if !self.take(b":") {
            return Err(Failure::Bad("expecting ':'"));
        }
        self.live = live && condition == 0;
        let no = self.nested(Self::ternary)?;
        self.live = live;
        Ok(if condition != 0 { yes } else { no })
    }

    fn operator(&self) -> Option<(&'static [u8], u8)> {
        let found = OPERATORS
            .iter()
            .find(|(token, _)| self.rest.starts_with(token))?;
        // An assignment operator is none of these.
        let after = self.rest.get(found.0.len()..).unwrap_or_default();
        let assigns = !matches!(found.0, b"<=" | b">=" | b"==" | b"!=" | b"||" | b"&&")
            && after.starts_with(b"=")
            && !after.starts_with(b"==");
        (!assigns).then_some(*found)
    }

    fn binary(&mut self, least: u8) -> Value {
        let mut left = self.unary()?;
        while let Some((token, binds)) = self.operator() {
            if binds < least {
                break;
            }
            self.take(token);
            let live = self.live;
            match token {
                b"||" => self.live = live && left == 0,
                b"&&" => self.live = live && left != 0,
                _ => {}
            }
            let right = self.nested(|this| this.binary(binds.saturating_add(1)))?;
            self.live = live;
            left = self.apply(token, left, right)?;
        }
        Ok(left)
    }

    fn apply(&self, operator: &[u8], left: i64, right: i64) -> Value {
        let shift = |amount: i64| u32::try_from(amount & 63).unwrap_or(0);
        Ok(match operator {
            b"||" => i64::from(left != 0 || right != 0),
            b"&&" => i64::from(left != 0 && right != 0),
            b"|" => left | right,
            b"^" => left ^ right,
            b"&" => left & right,
            b"==" => i64::from(left == right),
            b"!=" => i64::from(left != right),
            b"<" => i64::from(left < right),
            b">" => i64::from(left > right),
            b"<=" => i64::from(left <= right),
            b">=" => i64::from(left >= right),
            b"<<" => left.wrapping_shl(shift(right)),
            b">>" => left.wrapping_shr(shift(right)),
            b"+" => left.wrapping_add(right),
            b"-" => left.wrapping_sub(right),
            b"*" => left.wrapping_mul(right),
            b"/" | b"%" if !self.live => 0,
            b"/" | b"%" if right == 0 => return Err(Failure::Bad("division by zero")),
            b"/" => left.wrapping_div(right),
            b"%" => left.wrapping_rem(right),
            _ => return Err(Failure::Bad("syntax error")),
        })
    }

    fn unary(&mut self) -> Value {
        self.nested(|this| {
            if this.rest.starts_with(b"++") || this.rest.starts_with(b"--") {
                // Two signs in dash, an increment in bash.
                return Err(Failure::Stop(Stop::defer(
                    crate::call::Reason::Syntax,
                    "\"++\" and \"--\" are not POSIX",
                )));
            }
            if this.take(b"-") {
                return this.unary().map(i64::wrapping_neg);
            }
            if this.take(b"+") {
                return this.unary();
            }
            if this.take(b"~") {
                return this.unary().map(|value| !value);
            }
            if this.take(b"!") {
                return this.unary().map(|value| i64::from(value == 0));
            }
            if this.take(b"(") {
                let value = this.assignment()?;
                if !this.take(b")") {
                    return Err(Failure::Bad("expecting ')'"));
                }
                return Ok(value);
            }
            let name = this.name().to_vec();
            if !name.is_empty() {
                this.rest = this.rest.get(name.len()..).unwrap_or_default();
                this.spaces();
                return this.variable(&name);
            }
            let length = this
                .rest
                .iter()
                .position(|byte| !byte.is_ascii_alphanumeric())
                .unwrap_or(this.rest.len());
            let digits = this.rest.get(..length).unwrap_or_default();
            let value = number(digits).ok_or(Failure::Bad("expecting primary"))?;
            this.rest = this.rest.get(length..).unwrap_or_default();
            this.spaces();
            Ok(value)
        })
    }

    fn variable(&mut self, name: &[u8]) -> Value {
        if !self.live {
            return Ok(0);
        }
        let value = self.shell.environment.variables.get(name);
        match value {
            Some(value) => integer(value).ok_or(Failure::Bad("illegal number")),
            None if self.shell.environment.options.nounset => {
                Err(Failure::Bad("parameter not set"))
            }
            None => Ok(0),
        }
    }
}
