//! `awk`: the language without functions of its own, pipes and `getline`.

mod fields;
mod functions;
mod lexer;
mod parser;
mod program;
mod run;
mod value;

use super::arguments::{self, Spec};
use crate::shell::Shell;
use crate::stop::Run;

const AWK: Spec = Spec {
    short: "F:v:f:",
    long: &[],
    permute: false,
};

pub(crate) fn awk(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &AWK)?;
    let mut operands = arguments.operands.clone();
    let mut text = Vec::new();
    for path in arguments.values('f') {
        match shell.files.read(path)? {
            Ok(part) => {
                text.extend_from_slice(&part);
                text.push(b'\n');
            }
            Err(errno) => {
                shell.complain(b"awk", errno.to_string())?;
                return Ok(2);
            }
        }
    }
    if !arguments.has('f') {
        if operands.is_empty() {
            shell.complain(b"awk", "the program is missing")?;
            return Ok(2);
        }
        text = operands.remove(0);
    }
    let program = match parser::parse(&text) {
        Ok(program) => program,
        Err(why) => return shell.usage(b"awk", why),
    };
    let mut presets: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    if let Some(separator) = arguments.value('F') {
        let separator = if separator == b"t" {
            b"\t".to_vec()
        } else {
            unescape(separator)
        };
        presets.push((b"FS".to_vec(), separator));
    }
    for text in arguments.values('v') {
        let Some(at) = text.iter().position(|&byte| byte == b'=') else {
            return shell.usage(b"awk", "-v without an assignment");
        };
        let (name, value) = text.split_at(at);
        presets.push((name.to_vec(), unescape(value.get(1..).unwrap_or_default())));
    }
    run::run(shell, &program, &presets, &operands)
}

/// Resolves the escapes of a string.
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
            Some(b'r') => out.push(b'\r'),
            Some(b'\\') => out.push(b'\\'),
            Some(b'"') => out.push(b'"'),
            Some(b'/') => out.push(b'/'),
            Some(other) => {
                out.push(b'\\');
                out.push(other);
            }
            None => out.push(b'\\'),
        }
    }
    out
}
