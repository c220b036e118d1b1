//! Values of awk: strings, numbers, and input that looks like a number.

#[derive(Debug, Clone)]
pub(super) enum Value {
    Unset,
    Number(f64),
    String(Vec<u8>),
    /// Input: a number if it looks like one.
    Input(Vec<u8>),
}

/// Bytes of the number at the start of `text`, blanks left out; 0 if there is none.
pub(super) fn number_length(text: &[u8]) -> usize {
    let digits = |from: usize| {
        text.get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let whole = digits(sign);
    let mut at = sign.saturating_add(whole);
    let mut fraction = 0;
    if text.get(at) == Some(&b'.') {
        fraction = digits(at.saturating_add(1));
        if whole > 0 || fraction > 0 {
            at = at.saturating_add(1).saturating_add(fraction);
        }
    }
    if whole == 0 && fraction == 0 {
        return 0;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let after = at.saturating_add(1);
        let sign = usize::from(matches!(text.get(after), Some(b'+' | b'-')));
        let exponent = digits(after.saturating_add(sign));
        if exponent > 0 {
            at = after.saturating_add(sign).saturating_add(exponent);
        }
    }
    at
}

/// The number at the start of `text`, or 0.
pub(super) fn number(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let length = number_length(text);
    text.get(..length)
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.trim_start_matches('+').parse().ok())
        .unwrap_or(0.0)
}

fn looks_numeric(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    !text.is_empty() && number_length(text) == text.len()
}

/// Whether it is a whole number that is written without a fraction.
fn integer(number: f64) -> Option<i64> {
    if number.fract() != 0.0 || number.abs() >= 1e15 {
        return None;
    }
    format!("{number:.0}").parse().ok()
}

impl Value {
    pub(super) fn number(&self) -> f64 {
        match self {
            Self::Unset => 0.0,
            Self::Number(number) => *number,
            Self::String(text) | Self::Input(text) => number(text),
        }
    }

    /// The text; `None` for a number that only `%.6g` could write.
    pub(super) fn text(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Unset => Vec::new(),
            Self::Number(number) => integer(*number)?.to_string().into_bytes(),
            Self::String(text) | Self::Input(text) => text.clone(),
        })
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Unset => false,
            Self::Number(number) => *number != 0.0,
            Self::String(text) => !text.is_empty(),
            Self::Input(text) if looks_numeric(text) => number(text) != 0.0,
            Self::Input(text) => !text.is_empty(),
        }
    }

    fn is_numeric(&self) -> bool {
        match self {
            Self::Unset | Self::Number(_) => true,
            Self::String(_) => false,
            Self::Input(text) => looks_numeric(text),
        }
    }

    /// Compares as numbers if both are, else as texts.
    pub(super) fn compare(&self, other: &Self) -> Option<std::cmp::Ordering> {
        if self.is_numeric() && other.is_numeric() {
            return self.number().partial_cmp(&other.number());
        }
        Some(self.text()?.cmp(&other.text()?))
    }

    /// The whole part, for positions and exit codes.
    pub(super) fn integer(&self) -> i64 {
        integer(self.number().trunc()).unwrap_or(0)
    }
}
