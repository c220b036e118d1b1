//! `getopt` of util-linux: options put in order for `eval set --`.

use crate::shell::Shell;
use crate::stop::Run;

/// An option's name and whether it takes an argument: no, yes, or an attached one.
struct Known {
    name: Vec<u8>,
    takes: u8,
}

fn known_short(spec: &[u8]) -> Vec<Known> {
    let mut out: Vec<Known> = Vec::new();
    for &byte in spec {
        match (byte, out.last_mut()) {
            (b':', Some(last)) => last.takes = last.takes.saturating_add(1),
            (b'+' | b'-', None) => {}
            _ => out.push(Known {
                name: vec![byte],
                takes: 0,
            }),
        }
    }
    out
}

fn known_long(spec: &[u8], out: &mut Vec<Known>) {
    for name in spec.split(|byte| b", \t\n".contains(byte)) {
        let colons = name.iter().rev().take_while(|&&byte| byte == b':').count();
        let name = name
            .get(..name.len().saturating_sub(colons))
            .unwrap_or_default();
        if !name.is_empty() {
            out.push(Known {
                name: name.to_vec(),
                takes: u8::try_from(colons.min(2)).unwrap_or(2),
            });
        }
    }
}

fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = b" '".to_vec();
    for &byte in text {
        if byte == b'\'' {
            out.extend_from_slice(b"'\\''");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
    out
}

pub(crate) fn getopt(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut short: Option<Vec<u8>> = None;
    let mut long = Vec::new();
    let mut program = b"getopt".to_vec();
    // Long options may begin with one dash.
    let mut single_dash = false;
    let mut rest = words.get(1..).unwrap_or_default().iter();
    let mut given: Vec<Vec<u8>> = Vec::new();
    while let Some(word) = rest.next() {
        let (name, attached) = match word.iter().position(|&byte| byte == b'=') {
            Some(at) if word.starts_with(b"--") => (
                word.get(..at).unwrap_or_default(),
                word.get(at.saturating_add(1)..).map(<[u8]>::to_vec),
            ),
            _ => (word.as_slice(), None),
        };
        match name {
            b"-T" | b"--test" => return Ok(4),
            b"-a" | b"--alternative" => single_dash = true,
            b"-o" | b"--options" => short = attached.or_else(|| rest.next().cloned()),
            b"-l" | b"--long" | b"--longoptions" => {
                let spec = attached
                    .or_else(|| rest.next().cloned())
                    .unwrap_or_default();
                known_long(&spec, &mut long);
            }
            b"-n" | b"--name" => {
                program = attached
                    .or_else(|| rest.next().cloned())
                    .unwrap_or_default();
            }
            b"--" => {
                given.extend(rest.by_ref().cloned());
                break;
            }
            name if name.starts_with(b"-") => {
                return shell.usage(b"getopt", "the option is not interpreted");
            }
            _ => return shell.usage(b"getopt", "the traditional form is not interpreted"),
        }
    }
    let Some(short_spec) = short else {
        return shell.usage(b"getopt", "the options are missing");
    };
    let in_order = short_spec.first() == Some(&b'+')
        || shell
            .environment
            .variables
            .get(b"POSIXLY_CORRECT")
            .is_some();
    if short_spec.first() == Some(&b'-') || short_spec.first() == Some(&b':') {
        return shell.usage(b"getopt", "the mode is not interpreted");
    }
    let short = known_short(&short_spec);
    let mut out = Vec::new();
    let mut operands = Vec::new();
    let mut status = 0;
    let mut words = given.iter();
    while let Some(word) = words.next() {
        if word == b"--" {
            operands.extend(words.by_ref().cloned());
            break;
        }
        let long_text = word.strip_prefix(b"--").or_else(|| {
            let text = word
                .strip_prefix(b"-")
                .filter(|text| single_dash && !text.is_empty())?;
            let letter = text.first()?;
            let is_short = short.iter().any(|known| known.name == [*letter]);
            if is_short && text.len() == 1 {
                return None;
            }
            let end = text
                .iter()
                .position(|&byte| byte == b'=')
                .unwrap_or(text.len());
            let name = text.get(..end)?;
            let known = long.iter().any(|known| known.name.starts_with(name));
            (known || !is_short).then_some(text)
        });
        if let Some(text) = long_text {
            let (name, attached) = match text.iter().position(|&byte| byte == b'=') {
                Some(at) => (
                    text.get(..at).unwrap_or_default(),
                    text.get(at.saturating_add(1)..),
                ),
                None => (text, None),
            };
            let exact = long.iter().find(|known| known.name == name);
            let mut partial = long.iter().filter(|known| known.name.starts_with(name));
            let found = exact.or_else(|| match (partial.next(), partial.next()) {
                (Some(only), None) => Some(only),
                _ => None,
            });
            let Some(found) = found else {
                let text = format!("unrecognized option '--{}'", String::from_utf8_lossy(name));
                shell.complain(&program, text)?;
                status = 1;
                continue;
            };
            let value = match (found.takes, attached) {
                (0, Some(_)) => {
                    shell.complain(&program, "an option does not allow an argument")?;
                    status = 1;
                    continue;
                }
                (0, None) => None,
                (1, None) => match words.next() {
                    Some(value) => Some(value.clone()),
                    None => {
                        shell.complain(&program, "an option requires an argument")?;
                        status = 1;
                        continue;
                    }
                },
                (_, attached) => Some(attached.unwrap_or_default().to_vec()),
            };
            out.extend_from_slice(b" --");
            out.extend_from_slice(&found.name);
            if let Some(value) = value {
                out.extend(quoted(&value));
            }
            continue;
        }
        if word.len() < 2 || !word.starts_with(b"-") {
            operands.push(word.clone());
            if in_order {
                operands.extend(words.by_ref().cloned());
            }
            continue;
        }
        let mut at = 1_usize;
        while let Some(&letter) = word.get(at) {
            at = at.saturating_add(1);
            let Some(found) = short.iter().find(|known| known.name == [letter]) else {
                let text = format!("invalid option -- '{}'", char::from(letter));
                shell.complain(&program, text)?;
                status = 1;
                continue;
            };
            let option = [b' ', b'-', letter];
            if found.takes == 0 {
                out.extend_from_slice(&option);
                continue;
            }
            let attached = word.get(at..).unwrap_or_default();
            if !attached.is_empty() || found.takes == 2 {
                out.extend_from_slice(&option);
                out.extend(quoted(attached));
            } else if let Some(value) = words.next() {
                out.extend_from_slice(&option);
                out.extend(quoted(value));
            } else {
                shell.complain(&program, "an option requires an argument")?;
                status = 1;
            }
            break;
        }
    }
    out.extend_from_slice(b" --");
    for operand in operands {
        out.extend(quoted(&operand));
    }
    out.push(b'\n');
    shell.out(&out)?;
    Ok(status)
}
