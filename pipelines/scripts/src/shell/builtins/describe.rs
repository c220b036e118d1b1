//! `command`, `type` and `hash`.

use super::{find_for, is_special};
use crate::commands;
use crate::shell::{Shell, Target};
use crate::stop::Run;
use crate::syntax::Dialect;

const KEYWORDS: &[&[u8]] = &[
    b"!", b"case", b"do", b"done", b"elif", b"else", b"esac", b"fi", b"for", b"if", b"then",
    b"until", b"while", b"{", b"}",
];

pub(super) fn command(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut rest = arguments.get(1..).unwrap_or_default();
    let mut query = None;
    while let Some(option) = rest.first().and_then(|first| first.strip_prefix(b"-")) {
        rest = rest.get(1..).unwrap_or_default();
        match option {
            b"v" | b"V" | b"pv" => query = Some(option),
            b"p" => {}
            b"-" => break,
            _ => return shell.usage(b"command", "the option is not interpreted"),
        }
    }
    if let Some(query) = query {
        let mut status = 0;
        for name in rest {
            let found = describe(shell, name, query == b"V")?;
            match found {
                Some(line) => shell.out(&line)?,
                None => status = 127,
            }
        }
        if status != 0 && shell.environment.dialect == Dialect::Bash {
            status = 1;
        }
        return Ok(status);
    }
    let rest = rest.to_vec();
    if rest.is_empty() {
        return Ok(0);
    }
    shell.invoke(&rest, None)
}

/// What `command -v` or `type` prints for `name`.
fn describe(shell: &mut Shell<'_>, name: &[u8], verbose: bool) -> Run<Option<Vec<u8>>> {
    let line = |what: &[u8]| {
        if verbose {
            [name, b" is ", what, b"\n"].concat()
        } else {
            [name, b"\n"].concat()
        }
    };
    if KEYWORDS.contains(&name) {
        return Ok(Some(line(b"a shell keyword")));
    }
    if shell.environment.functions.contains_key(name) {
        return Ok(Some(line(b"a shell function")));
    }
    if is_special(name) {
        return Ok(Some(line(b"a special shell builtin")));
    }
    if find_for(name, shell.environment.dialect).is_some() {
        return Ok(Some(line(b"a shell builtin")));
    }
    if shell.debconf.is_active() && commands::debconf::find(name).is_some() {
        return Ok(Some(line(b"a shell function")));
    }
    Ok(match shell.locate(name)? {
        Target::File(path) if verbose => Some(line(&path)),
        Target::File(mut path) => {
            path.push(b'\n');
            Some(path)
        }
        _ => None,
    })
}

pub(super) fn type_of(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut status = 0;
    for name in arguments.get(1..).unwrap_or_default() {
        match describe(shell, name, true)? {
            Some(line) => shell.out(&line)?,
            None => {
                // dash says so on its standard output, bash on its standard error.
                let line = [name, &b": not found\n"[..]].concat();
                if shell.environment.dialect == Dialect::Posix {
                    shell.out(&line)?;
                    status = 127;
                } else {
                    status = 1;
                }
            }
        }
    }
    Ok(status)
}

pub(super) fn hash(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    for name in arguments.get(1..).unwrap_or_default() {
        if name.starts_with(b"-") {
            continue;
        }
        if describe(shell, name, false)?.is_none() {
            return Ok(1);
        }
    }
    Ok(0)
}
