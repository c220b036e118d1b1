//! Builtins of the shell.

mod declare;
mod describe;
mod directory;
mod input;

pub(crate) use declare::set_flags;

use super::{Shell, printf, test};
use crate::call::Reason;
use crate::commands;
use crate::stop::{Run, Stop};
use crate::syntax::Dialect;

pub(crate) type Builtin = fn(&mut Shell<'_>, &[Vec<u8>]) -> Run<i32>;

/// Builtins by name; special ones (POSIX, 2.14) are marked.
const BUILTINS: &[(&[u8], bool, Builtin)] = &[
    (b".", true, source),
    (b":", true, succeed),
    (b"[", false, test::bracket),
    (b"break", true, break_loop),
    (b"cd", false, directory::change_directory),
    (b"chdir", false, directory::change_directory),
    (b"command", false, describe::command),
    (b"continue", true, break_loop),
    (b"echo", false, echo),
    (b"eval", true, eval),
    (b"exec", true, exec),
    (b"exit", true, exit),
    (b"export", true, declare::export),
    (b"false", false, fail),
    (b"getopts", false, input::getopts),
    (b"hash", false, describe::hash),
    (b"local", false, declare::local),
    (b"printf", false, printf::printf),
    (b"pwd", false, directory::print_directory),
    (b"read", false, input::read),
    (b"readonly", true, declare::export),
    (b"return", true, return_from),
    (b"set", true, declare::set),
    (b"shift", true, declare::shift),
    (b"test", false, test::test),
    (b"times", true, refuse),
    (b"trap", true, trap),
    (b"true", false, succeed),
    (b"type", false, describe::type_of),
    (b"umask", false, directory::umask),
    (b"unset", true, declare::unset),
    (b"wait", false, succeed),
    (b"alias", false, alias),
    (b"bg", false, refuse),
    (b"fg", false, refuse),
    (b"jobs", false, refuse),
    (b"kill", false, refuse),
    (b"ulimit", false, refuse),
    (b"unalias", false, refuse),
];

/// Builtins that only bash has.
const BASH: &[(&[u8], Builtin)] = &[
    (b"source", source),
    (b"declare", refuse),
    (b"typeset", refuse),
    (b"shopt", refuse),
    (b"let", refuse),
    (b"builtin", refuse),
    (b"mapfile", refuse),
    (b"readarray", refuse),
    (b"pushd", refuse),
    (b"popd", refuse),
];

pub(crate) fn find_for(name: &[u8], dialect: Dialect) -> Option<Builtin> {
    BUILTINS
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|&(_, _, builtin)| builtin)
        .or_else(|| {
            (dialect == Dialect::Bash)
                .then(|| BASH.iter().find(|(known, _)| *known == name))?
                .map(|&(_, builtin)| builtin)
        })
}

pub(crate) fn is_special(name: &[u8]) -> bool {
    BUILTINS
        .iter()
        .any(|&(known, special, _)| special && known == name)
}

pub(super) fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

fn succeed(_: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    Ok(0)
}

fn fail(_: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    Ok(1)
}

fn refuse(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let name = arguments.first().cloned().unwrap_or_default();
    shell.refuse(
        Reason::Command,
        &name,
        "is a builtin that is not interpreted",
    )
}

/// An error in a special builtin, which ends the shell.
pub(super) fn fatal(shell: &mut Shell<'_>, command: &[u8], what: &str) -> Run<i32> {
    shell.complain(command, what)?;
    match shell.environment.dialect {
        Dialect::Posix => Err(Stop::Exit(2)),
        Dialect::Bash => Ok(1),
    }
}

fn source(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let Some(file) = arguments.get(1) else {
        return fatal(shell, b".", "a file's name is missing");
    };
    if commands::debconf::is_confmodule(file) {
        return commands::debconf::start(shell);
    }
    let path = if file.contains(&b'/') {
        Some(file.clone())
    } else {
        let path = shell
            .environment
            .variables
            .get(b"PATH")
            .unwrap_or_default()
            .to_vec();
        let mut found = None;
        for folder in path.split(|&byte| byte == b':') {
            let candidate = [folder, b"/", file].concat();
            if shell.files.is_file(&candidate)? {
                found = Some(candidate);
                break;
            }
        }
        found
    };
    let content = match path {
        Some(path) => shell.files.read(&path)?.ok(),
        None => None,
    };
    let Some(content) = content else {
        return fatal(
            shell,
            b".",
            &format!("cannot open {}", String::from_utf8_lossy(file)),
        );
    };
    let line = shell.line;
    shell.environment.foreign = shell.environment.foreign.saturating_add(1);
    let result = shell
        .parse(&content)
        .and_then(|list| shell.deeper(|shell| shell.list(&list)));
    shell.environment.foreign = shell.environment.foreign.saturating_sub(1);
    shell.line = line;
    match result {
        Err(Stop::Return(status)) => Ok(status),
        result => result,
    }
}

fn break_loop(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let continues = arguments.first().is_some_and(|name| name == b"continue");
    let levels = match arguments.get(1) {
        Some(text) => match number(text).and_then(|levels| u32::try_from(levels).ok()) {
            Some(levels) if levels > 0 => levels,
            _ => return fatal(shell, b"break", "bad number"),
        },
        None => 1,
    };
    let levels = levels.min(shell.environment.loops);
    if levels == 0 {
        return Ok(0);
    }
    Err(if continues {
        Stop::Continue(levels)
    } else {
        Stop::Break(levels)
    })
}

fn eval(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let text = arguments.get(1..).unwrap_or_default().join(&b' ');
    shell.evaluate(&text)
}

fn exec(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let rest = arguments.get(1..).unwrap_or_default().to_vec();
    let status = shell.execute(&rest)?;
    shell.environment.exit_trap = None;
    Err(Stop::Exit(status))
}

fn status_argument(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    match arguments.get(1) {
        None => Ok(shell.environment.status),
        Some(text) => match number(text).and_then(|value| i32::try_from(value).ok()) {
            Some(status) if status >= 0 => Ok(status),
            _ => {
                shell.complain(b"exit", "Illegal number")?;
                Err(Stop::Exit(2))
            }
        },
    }
}

fn exit(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let status = status_argument(shell, arguments)?;
    Err(Stop::Exit(status & 0xff))
}

fn return_from(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let status = status_argument(shell, arguments)?;
    Err(Stop::Return(status))
}

fn trap(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut rest = arguments.get(1..).unwrap_or_default();
    if rest.first().is_some_and(|first| first == b"--") {
        rest = rest.get(1..).unwrap_or_default();
    }
    let Some(first) = rest.first() else {
        return shell.usage(b"trap", "listing traps is not interpreted");
    };
    if first.starts_with(b"-") && first != b"-" {
        return shell.usage(b"trap", "options are not interpreted");
    }
    let resets = first == b"-" || number(first).is_some() || rest.len() == 1;
    let conditions = if first == b"-" || !resets {
        rest.get(1..).unwrap_or_default()
    } else {
        rest
    };
    for condition in conditions {
        // Nobody sends signals to a script that is interpreted.
        if matches!(condition.as_slice(), b"EXIT" | b"0") {
            shell.environment.exit_trap = (!resets).then(|| first.clone());
        } else if matches!(condition.as_slice(), b"ERR" | b"DEBUG" | b"RETURN") {
            return shell.usage(b"trap", "the condition is not POSIX");
        }
    }
    Ok(0)
}

/// Expands the escapes of `echo` and `%b` into `out`; false at `\c`, which ends the output.
pub(crate) fn unescape(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(&next) = bytes.peek() else {
            out.push(b'\\');
            break;
        };
        bytes.next();
        match next {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'c' => return false,
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'\\' => out.push(b'\\'),
            b'0' => {
                let mut value = 0_u32;
                for _ in 0..3 {
                    let Some(&digit @ b'0'..=b'7') = bytes.peek() else {
                        break;
                    };
                    bytes.next();
                    value = (value << 3) | u32::from(digit.wrapping_sub(b'0'));
                }
                out.push(u8::try_from(value & 0xff).unwrap_or(0));
            }
            other => {
                out.push(b'\\');
                out.push(other);
            }
        }
    }
    true
}

fn echo(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut rest = arguments.get(1..).unwrap_or_default();
    let mut newline = true;
    let mut escapes = shell.environment.dialect == Dialect::Posix;
    if escapes {
        if rest.first().is_some_and(|first| first == b"-n") {
            newline = false;
            rest = rest.get(1..).unwrap_or_default();
        }
    } else {
        while let Some(option) = rest.first().and_then(|first| first.strip_prefix(b"-")) {
            if option.is_empty() || !option.iter().all(|letter| b"neE".contains(letter)) {
                break;
            }
            for letter in option {
                match letter {
                    b'n' => newline = false,
                    b'e' => escapes = true,
                    _ => escapes = false,
                }
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    let text = rest.join(&b' ');
    let mut out = Vec::with_capacity(text.len().saturating_add(1));
    if !escapes {
        out = text;
    } else if !unescape(&text, &mut out) {
        newline = false;
    }
    if newline {
        out.push(b'\n');
    }
    Ok(i32::from(!shell.write_fd(1, &out)?))
}

/// `alias NAME=COMMAND`, as far as it is what a function of that name would be: one plain command that takes the words
/// after the name.
fn alias(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let [_, definition] = words else {
        return shell.usage(b"alias", "one definition is interpreted");
    };
    let Some(at) = definition.iter().position(|&byte| byte == b'=') else {
        return shell.usage(b"alias", "one definition is interpreted");
    };
    let (name, value) = definition.split_at(at);
    let value = value.get(1..).unwrap_or_default();
    // These would make more than one command of it, unless single quotes hold them.
    let harmless = |byte: &u8| !b"\n;|&<>(){}#`!\\".contains(byte);
    let parts: Vec<&[u8]> = value.split(|&byte| byte == b'\'').collect();
    let is_quoted = !value.contains(&b'"') && parts.len() % 2 == 1;
    let plain = value.iter().all(harmless)
        || is_quoted
            && parts
                .iter()
                .step_by(2)
                .all(|part| part.iter().all(harmless));
    let ends_open = value.last().is_none_or(|byte| b" \t".contains(byte));
    if !crate::syntax::is_name(name) || is_special(name) || !plain || ends_open {
        return shell.usage(b"alias", "the command is not interpreted");
    }
    let text = [name, b"() { ", value, b" \"$@\"; }\n"].concat();
    let list = shell.parse(&text)?;
    shell.list(&list)
}
