//! `export`, `readonly`, `local`, `unset`, `shift` and `set`.

use std::rc::Rc;

use super::{fatal, number};
use crate::shell::Shell;
use crate::stop::Run;
use crate::syntax::{Dialect, is_name};

fn quoted(value: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for &byte in value {
        if byte == b'\'' {
            out.extend_from_slice(b"'\"'\"'");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
    out
}

pub(super) fn export(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let readonly = arguments.first().is_some_and(|name| name == b"readonly");
    let rest = arguments.get(1..).unwrap_or_default();
    if rest.is_empty() || rest.first().is_some_and(|first| first == b"-p") {
        let mut out = Vec::new();
        for (name, variable) in shell.environment.variables.iter() {
            if (readonly && variable.readonly) || (!readonly && variable.exported) {
                out.extend_from_slice(if readonly { b"readonly " } else { b"export " });
                out.extend_from_slice(name);
                if let Some(value) = &variable.value {
                    out.push(b'=');
                    out.extend_from_slice(&quoted(value));
                }
                out.push(b'\n');
            }
        }
        shell.out(&out)?;
        return Ok(0);
    }
    for argument in rest {
        if argument == b"--" {
            continue;
        }
        let (name, value) = match argument.iter().position(|&byte| byte == b'=') {
            Some(at) => (
                argument.get(..at).unwrap_or_default(),
                argument.get(at.saturating_add(1)..),
            ),
            None => (argument.as_slice(), None),
        };
        if argument.starts_with(b"-") {
            return shell.usage(b"export", "options are not interpreted");
        }
        if !is_name(name) {
            return fatal(shell, b"export", "bad variable name");
        }
        if let Some(value) = value {
            shell.assign(name, value)?;
        }
        let variable = shell.environment.variables.entry(name);
        if readonly {
            variable.readonly = true;
        } else {
            variable.exported = true;
        }
    }
    Ok(0)
}

pub(super) fn local(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    for argument in arguments.get(1..).unwrap_or_default() {
        let (name, value) = match argument.iter().position(|&byte| byte == b'=') {
            Some(at) => (
                argument.get(..at).unwrap_or_default(),
                argument.get(at.saturating_add(1)..),
            ),
            None => (argument.as_slice(), None),
        };
        if !is_name(name) {
            if argument.starts_with(b"-") {
                return shell.usage(b"local", "options are not interpreted");
            }
            return fatal(shell, b"local", "bad variable name");
        }
        if !shell.environment.variables.make_local(name) {
            return fatal(shell, b"local", "not in a function");
        }
        match value {
            Some(value) => shell.assign(name, value)?,
            // dash keeps the outer value, bash begins unset.
            None if shell.environment.dialect == Dialect::Bash => {
                shell.environment.variables.unset(name);
            }
            None => {}
        }
    }
    Ok(0)
}

pub(super) fn unset(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut functions = false;
    for argument in arguments.get(1..).unwrap_or_default() {
        match argument.as_slice() {
            b"-f" => functions = true,
            b"-v" => functions = false,
            _ if functions => {
                Rc::make_mut(&mut shell.environment.functions).remove(argument);
            }
            _ if shell.environment.variables.is_readonly(argument) => {
                return fatal(shell, b"unset", "the variable is read only");
            }
            _ => shell.environment.variables.unset(argument),
        }
    }
    Ok(0)
}

pub(super) fn shift(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let count = match arguments.get(1) {
        Some(text) => match number(text).and_then(|count| usize::try_from(count).ok()) {
            Some(count) => count,
            None => return fatal(shell, b"shift", "Illegal number"),
        },
        None => 1,
    };
    let positional = Rc::make_mut(&mut shell.environment.positional);
    if count > positional.len() {
        return match shell.environment.dialect {
            Dialect::Posix => fatal(shell, b"shift", "can't shift that many"),
            Dialect::Bash => Ok(1),
        };
    }
    positional.drain(..count);
    Ok(0)
}

/// Applies the letters of `-ex` or `+ex`; false for an unknown one.
pub(crate) fn set_flags(shell: &mut Shell<'_>, letters: &[u8], on: bool) -> bool {
    let options = &mut shell.environment.options;
    for letter in letters {
        match letter {
            b'e' => options.errexit = on,
            b'u' => options.nounset = on,
            b'f' => options.noglob = on,
            b'x' => options.xtrace = on,
            b'v' => options.verbose = on,
            b'a' => options.allexport = on,
            b'C' => options.noclobber = on,
            b'n' => options.noexec = on,
            b'b' | b'h' | b'm' => {}
            _ => return false,
        }
    }
    true
}

fn set_named(shell: &mut Shell<'_>, name: &[u8], on: bool) -> bool {
    let letter = match name {
        b"errexit" => b'e',
        b"nounset" => b'u',
        b"noglob" => b'f',
        b"xtrace" => b'x',
        b"verbose" => b'v',
        b"allexport" => b'a',
        b"noclobber" => b'C',
        b"pipefail" if shell.environment.dialect == Dialect::Bash => {
            shell.environment.options.pipefail = on;
            return true;
        }
        b"posix" if shell.environment.dialect == Dialect::Bash => return false,
        _ => return false,
    };
    set_flags(shell, &[letter], on)
}

pub(super) fn set(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    if arguments.len() == 1 {
        let mut out = Vec::new();
        for (name, variable) in shell.environment.variables.iter() {
            if let Some(value) = &variable.value {
                out.extend_from_slice(name);
                out.push(b'=');
                out.extend_from_slice(&quoted(value));
                out.push(b'\n');
            }
        }
        shell.out(&out)?;
        return Ok(0);
    }
    let mut index = 1_usize;
    while let Some(argument) = arguments.get(index) {
        let on = match argument.first() {
            Some(b'-') => true,
            Some(b'+') => false,
            _ => break,
        };
        index = index.saturating_add(1);
        if argument == b"--" {
            shell.environment.positional =
                Rc::new(arguments.get(index..).unwrap_or_default().to_vec());
            return Ok(0);
        }
        if argument == b"-" {
            set_flags(shell, b"xv", false);
            break;
        }
        let mut letters = argument.get(1..).unwrap_or_default().to_vec();
        let known = if letters.last() == Some(&b'o') {
            letters.pop();
            let Some(name) = arguments.get(index).cloned() else {
                return shell.usage(b"set", "\"set -o\" without a name is not interpreted");
            };
            index = index.saturating_add(1);
            set_named(shell, &name, on) && set_flags(shell, &letters, on)
        } else {
            set_flags(shell, &letters, on)
        };
        if !known {
            if shell.environment.dialect == Dialect::Bash {
                return shell.usage(b"set", "the option is not interpreted");
            }
            return fatal(shell, b"set", "Illegal option");
        }
        if shell.environment.options.noexec || shell.environment.options.noclobber {
            return shell.usage(b"set", "\"-n\" and \"-C\" are not interpreted");
        }
    }
    if index < arguments.len() {
        shell.environment.positional = Rc::new(arguments.get(index..).unwrap_or_default().to_vec());
    }
    Ok(0)
}
