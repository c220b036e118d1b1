//! Options and operands of a command, as GNU's getopt reads them. What is not declared is refused, never guessed.

use crate::shell::Shell;
use crate::stop::Run;

/// The options a command knows.
pub(crate) struct Spec {
    /// Letters; one followed by `:` takes an argument, by `?` an optional one that must be attached.
    pub(crate) short: &'static str,
    /// Long names and the letter each stands for. A name that ends in `=` takes an argument, in `?` an optional one.
    pub(crate) long: &'static [(&'static str, char)],
    /// Options may follow operands.
    pub(crate) permute: bool,
}

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    options: Vec<(char, Option<Vec<u8>>)>,
    pub(crate) operands: Vec<Vec<u8>>,
}

impl Arguments {
    pub(crate) fn has(&self, letter: char) -> bool {
        self.options.iter().any(|&(known, _)| known == letter)
    }

    /// The last value given to an option.
    pub(crate) fn value(&self, letter: char) -> Option<&[u8]> {
        self.options
            .iter()
            .rev()
            .find(|&&(known, _)| known == letter)
            .and_then(|(_, value)| value.as_deref())
    }

    /// Every value given to an option, in order.
    pub(crate) fn values(&self, letter: char) -> impl Iterator<Item = &[u8]> {
        self.options
            .iter()
            .filter(move |&&(known, _)| known == letter)
            .filter_map(|(_, value)| value.as_deref())
    }

    /// The last given of several options that exclude one another.
    pub(crate) fn last_of(&self, letters: &str) -> Option<char> {
        self.options
            .iter()
            .rev()
            .map(|&(letter, _)| letter)
            .find(|&letter| letters.contains(letter))
    }

    pub(crate) fn options(&self) -> impl Iterator<Item = (char, Option<&[u8]>)> {
        self.options
            .iter()
            .map(|(letter, value)| (*letter, value.as_deref()))
    }

    pub(crate) fn operand(&self, index: usize) -> Option<&[u8]> {
        self.operands.get(index).map(Vec::as_slice)
    }
}

/// Whether a short option takes no argument, one, or an attached one.
fn takes(spec: &Spec, letter: char) -> Option<char> {
    let at = spec
        .short
        .find(letter)
        .filter(|_| letter != ':' && letter != '?')?;
    let after = spec.short.get(at.checked_add(letter.len_utf8())?..)?;
    let mark = after.chars().next();
    Some(mark.filter(|mark| ":?".contains(*mark)).unwrap_or(' '))
}

/// Reads `words`, of which the first is the command's name.
pub(crate) fn read(shell: &Shell<'_>, words: &[Vec<u8>], spec: &Spec) -> Run<Arguments> {
    let mut out = Arguments::default();
    let mut rest = words.get(1..).unwrap_or_default().iter();
    let name = words.first().cloned().unwrap_or_default();
    while let Some(word) = rest.next() {
        if word == b"--" {
            out.operands.extend(rest.cloned());
            break;
        }
        if let Some(long) = word.strip_prefix(b"--") {
            let (long, value) = match long.iter().position(|&byte| byte == b'=') {
                Some(at) => (
                    long.get(..at).unwrap_or_default(),
                    long.get(at.saturating_add(1)..),
                ),
                None => (long, None),
            };
            let known = spec
                .long
                .iter()
                .find(|(known, _)| known.trim_end_matches(['=', '?']).as_bytes() == long);
            let Some(&(known, letter)) = known else {
                return shell.usage(
                    &name,
                    format!(
                        "the option --{} is not interpreted",
                        String::from_utf8_lossy(long)
                    ),
                );
            };
            let value = if known.ends_with('=') {
                match value {
                    Some(value) => Some(value.to_vec()),
                    None => match rest.next() {
                        Some(value) => Some(value.clone()),
                        None => return shell.usage(&name, "an option lacks its argument"),
                    },
                }
            } else if known.ends_with('?') {
                value.map(<[u8]>::to_vec)
            } else if value.is_some() {
                return shell.usage(&name, "an option has an argument that it does not take");
            } else {
                None
            };
            out.options.push((letter, value));
            continue;
        }
        if word.len() < 2 || !word.starts_with(b"-") {
            out.operands.push(word.clone());
            if !spec.permute {
                out.operands.extend(rest.cloned());
                break;
            }
            continue;
        }
        let mut at = 1_usize;
        while let Some(&byte) = word.get(at) {
            at = at.saturating_add(1);
            let letter = char::from(byte);
            match takes(spec, letter) {
                Some(' ') => out.options.push((letter, None)),
                Some(mark) => {
                    let attached = word.get(at..).unwrap_or_default();
                    let value = if !attached.is_empty() {
                        Some(attached.to_vec())
                    } else if mark == '?' {
                        None
                    } else {
                        match rest.next() {
                            Some(value) => Some(value.clone()),
                            None => return shell.usage(&name, "an option lacks its argument"),
                        }
                    };
                    out.options.push((letter, value));
                    break;
                }
                None => {
                    return shell.usage(&name, format!("the option -{letter} is not interpreted"));
                }
            }
        }
    }
    Ok(out)
}
