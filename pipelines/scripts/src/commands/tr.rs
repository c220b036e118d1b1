//! `tr`.

use super::arguments::{self, Spec};
use crate::shell::{Shell, pattern};
use crate::stop::Run;

const TR: Spec = Spec {
    short: "cCdst",
    long: &[
        ("complement", 'c'),
        ("delete", 'd'),
        ("squeeze-repeats", 's'),
        ("truncate-set1", 't'),
    ],
    permute: false,
};

/// The characters of a set of `tr`; `None` for what is not interpreted.
fn set(text: &[u8]) -> Option<Vec<u8>> {
    let mut units: Vec<(u8, bool)> = Vec::new();
    let mut at = 0_usize;
    let mut out: Vec<u8> = Vec::new();
    while let Some(&byte) = text.get(at) {
        at = at.saturating_add(1);
        if byte == b'\\' {
            let next = text.get(at).copied();
            if let Some(b'0'..=b'7') = next {
                let mut value = 0_u32;
                for _ in 0..3 {
                    let Some(&digit @ b'0'..=b'7') = text.get(at) else {
                        break;
                    };
                    at = at.saturating_add(1);
                    value = (value << 3) | u32::from(digit.wrapping_sub(b'0'));
                }
                units.push((u8::try_from(value).ok()?, true));
                continue;
            }
            at = at.saturating_add(1);
            let value = match next {
                None => {
                    units.push((b'\\', true));
                    continue;
                }
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'a') => 7,
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'v') => 11,
                Some(other) => other,
            };
            units.push((value, true));
            continue;
        }
        if byte == b'[' && text.get(at) == Some(&b':') {
            let start = at.saturating_add(1);
            let rest = text.get(start..).unwrap_or_default();
            if let Some(length) = rest.windows(2).position(|pair| pair == b":]") {
                let class = pattern::class(rest.get(..length)?)?;
                flush(&mut units, &mut out)?;
                out.extend((0..=255_u8).filter(|&byte| class(byte)));
                at = start.saturating_add(length).saturating_add(2);
                continue;
            }
        }
        if byte == b'[' && matches!(text.get(at), Some(b'=')) {
            return None;
        }
        if byte == b'['
            && text
                .get(at..)
                .is_some_and(|rest| rest.len() > 2 && rest.get(1) == Some(&b'*'))
        {
            return None;
        }
        units.push((byte, false));
    }
    flush(&mut units, &mut out)?;
    Some(out)
}

/// Resolves ranges among single characters.
fn flush(units: &mut Vec<(u8, bool)>, out: &mut Vec<u8>) -> Option<()> {
    let mut at = 0_usize;
    while let Some(&(byte, _)) = units.get(at) {
        if let (Some((b'-', false)), Some(&(end, _))) = (
            units.get(at.saturating_add(1)),
            units.get(at.saturating_add(2)),
        ) {
            if end < byte {
                return None;
            }
            out.extend(byte..=end);
            at = at.saturating_add(3);
            continue;
        }
        out.push(byte);
        at = at.saturating_add(1);
    }
    units.clear();
    Some(())
}

pub(crate) fn tr(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &TR)?;
    let Some(mut first) = arguments.operand(0).and_then(set) else {
        return shell.usage(b"tr", "the first set is not interpreted");
    };
    let second = match arguments.operand(1) {
        Some(text) => match set(text) {
            Some(second) => Some(second),
            None => return shell.usage(b"tr", "the second set is not interpreted"),
        },
        None => None,
    };
    let (delete, squeeze) = (arguments.has('d'), arguments.has('s'));
    if arguments.has('t')
        || arguments.operands.len() > 2
        || (second.is_none() && !delete && !squeeze)
    {
        return shell.usage(b"tr", "the call is not interpreted");
    }
    if arguments.has('c') || arguments.has('C') {
        first = (0..=255_u8).filter(|byte| !first.contains(byte)).collect();
    }
    let text = shell.read_all()?;
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let translates = second.is_some() && !delete;
    let squeezed: &[u8] = match &second {
        Some(second) => second,
        None => &first,
    };
    let mut map: Vec<u8> = (0..=255).collect();
    if translates {
        let to = second.clone().unwrap_or_default();
        let Some(&last) = to.last() else {
            return shell.usage(b"tr", "the second set is empty");
        };
        for (index, &from) in first.iter().enumerate() {
            if let Some(place) = map.get_mut(usize::from(from)) {
                *place = to.get(index).copied().unwrap_or(last);
            }
        }
    }
    for byte in text {
        if delete && first.contains(&byte) {
            continue;
        }
        let byte = map.get(usize::from(byte)).copied().unwrap_or(byte);
        if squeeze && out.last() == Some(&byte) && squeezed.contains(&byte) {
            continue;
        }
        out.push(byte);
    }
    shell.out(&out)?;
    Ok(0)
}
