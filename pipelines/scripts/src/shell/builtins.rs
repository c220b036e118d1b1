//! Builtins of the shell.

use std::rc::Rc;

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::program::Target;
use super::{Shell, printf, test};
use crate::call::Reason;
use crate::commands;
use crate::stop::{Run, Stop};
use crate::syntax::{Dialect, is_name};

pub(crate) type Builtin = fn(&mut Shell<'_>, &[Vec<u8>]) -> Run<i32>;

/// Builtins by name; special ones (POSIX, 2.14) are marked.
const BUILTINS: &[(&[u8], bool, Builtin)] = &[
    (b".", true, source),
    (b":", true, succeed),
    (b"[", false, test::bracket),
    (b"break", true, break_loop),
    (b"cd", false, change_directory),
    (b"chdir", false, change_directory),
    (b"command", false, command),
    (b"continue", true, break_loop),
    (b"echo", false, echo),
    (b"eval", true, eval),
    (b"exec", true, exec),
    (b"exit", true, exit),
    (b"export", true, export),
    (b"false", false, fail),
    (b"getopts", false, getopts),
    (b"hash", false, hash),
    (b"local", false, local),
    (b"printf", false, printf::printf),
    (b"pwd", false, print_directory),
    (b"read", false, read),
    (b"readonly", true, export),
    (b"return", true, return_from),
    (b"set", true, set),
    (b"shift", true, shift),
    (b"test", false, test::test),
    (b"times", true, refuse),
    (b"trap", true, trap),
    (b"true", false, succeed),
    (b"type", false, type_of),
    (b"umask", false, umask),
    (b"unset", true, unset),
    (b"wait", false, succeed),
    (b"alias", false, refuse),
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

fn number(text: &[u8]) -> Option<i64> {
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
    shell.refuse(Reason::Command, &name, "is a builtin that is not interpreted")
}

/// An error in a special builtin, which ends the shell.
fn fatal(shell: &mut Shell<'_>, command: &[u8], what: &str) -> Run<i32> {
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
        let path = shell.environment.variables.get(b"PATH").unwrap_or_default().to_vec();
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
        return fatal(shell, b".", &format!("cannot open {}", String::from_utf8_lossy(file)));
    };
    let line = shell.line;
    shell.environment.foreign = shell.environment.foreign.saturating_add(1);
    let result = shell.parse(&content).and_then(|list| shell.deeper(|shell| shell.list(&list)));
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

fn export(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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

fn local(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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

fn unset(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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

fn shift(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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

fn set(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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

fn umask(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let Some(text) = arguments.get(1) else {
        let line = format!("{:04o}\n", shell.files.umask);
        shell.out(line.as_bytes())?;
        return Ok(0);
    };
    let mask = std::str::from_utf8(text)
        .ok()
        .and_then(|text| u16::from_str_radix(text, 8).ok())
        .filter(|&mask| mask <= 0o777);
    match mask {
        Some(mask) => {
            shell.files.umask = mask;
            Ok(0)
        }
        None => shell.usage(b"umask", "only octal masks are interpreted"),
    }
}

fn change_directory(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut rest = arguments.get(1..).unwrap_or_default();
    let mut physical = false;
    while let Some(option @ (b"-P" | b"-L" | b"--")) = rest.first().map(Vec::as_slice) {
        physical = option == b"-P";
        rest = rest.get(1..).unwrap_or_default();
        if option == b"--" {
            break;
        }
    }
    let before = shell.environment.variables.get(b"PWD").unwrap_or(b"/").to_vec();
    let (target, print) = match rest.first().map(Vec::as_slice) {
        None => match shell.environment.variables.get(b"HOME") {
            Some(home) => (home.to_vec(), false),
            None => return Ok(0),
        },
        Some(b"-") => (
            shell.environment.variables.get(b"OLDPWD").unwrap_or(b"/").to_vec(),
            true,
        ),
        Some(target) => (target.to_vec(), false),
    };
    let mut logical = if target.starts_with(b"/") {
        target.clone()
    } else {
        [&before[..], b"/", &target].concat()
    };
    if physical {
        if let Some(found) = shell.files.look(&logical, Follow::Links)? {
            logical = found.path.as_bytes().to_vec();
        }
    } else {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in logical.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        logical = [b"/", parts.join(&b'/').as_slice()].concat();
    }
    match shell.files.look(&logical, Follow::Links)? {
        Some(found) if found.node == DraftNode::Directory => {
            shell.files.cwd = found.path;
            shell.environment.variables.set_exported(b"OLDPWD", &before);
            shell.environment.variables.set_exported(b"PWD", &logical);
            if print {
                shell.out(&[&logical[..], b"\n"].concat())?;
            }
            Ok(0)
        }
        _ => {
            shell.complain(b"cd", format!("can't cd to {}", String::from_utf8_lossy(&target)))?;
            Ok(if shell.environment.dialect == Dialect::Bash {
                1
            } else {
                2
            })
        }
    }
}

fn print_directory(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut line = if arguments.get(1).is_some_and(|option| option == b"-P") {
        shell.files.cwd.as_bytes().to_vec()
    } else {
        shell.environment.variables.get(b"PWD").unwrap_or(b"/").to_vec()
    };
    line.push(b'\n');
    shell.out(&line)?;
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

fn command(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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

const KEYWORDS: &[&[u8]] = &[
    b"!", b"case", b"do", b"done", b"elif", b"else", b"esac", b"fi", b"for", b"if", b"then",
    b"until", b"while", b"{", b"}",
];

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

fn type_of(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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

fn hash(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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

fn getopts(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let (Some(spec), Some(name)) = (arguments.get(1), arguments.get(2)) else {
        return fatal(shell, b"getopts", "usage: getopts optstring var [arg]");
    };
    let list: Vec<Vec<u8>> = match arguments.get(3..) {
        Some(list) if !list.is_empty() => list.to_vec(),
        _ => shell.environment.positional.to_vec(),
    };
    let mut index = shell
        .environment
        .variables
        .get(b"OPTIND")
        .and_then(number)
        .and_then(|index| usize::try_from(index).ok())
        .unwrap_or(1)
        .max(1);
    let mut offset = shell.environment.getopts_offset;
    let silent = spec.first() == Some(&b':');
    let current = list.get(index.saturating_sub(1)).cloned().unwrap_or_default();
    if offset == 0 {
        if current == b"--" {
            index = index.saturating_add(1);
        }
        if current == b"--" || current == b"-" || !current.starts_with(b"-") {
            shell.assign(b"OPTIND", index.to_string().as_bytes())?;
            shell.assign(name, b"?")?;
            return Ok(1);
        }
        offset = 1;
    }
    let letter = current.get(offset).copied().unwrap_or(b'?');
    offset = offset.saturating_add(1);
    let at_end = offset >= current.len();
    let known = (letter != b':')
        .then(|| spec.iter().position(|&byte| byte == letter))
        .flatten();
    let takes = known
        .and_then(|at| spec.get(at.saturating_add(1)))
        .is_some_and(|&byte| byte == b':');
    shell.environment.variables.unset(b"OPTARG");
    let mut result = vec![letter];
    if known.is_none() {
        result = b"?".to_vec();
        if silent {
            shell.assign(b"OPTARG", &[letter])?;
        } else {
            shell.complain(b"getopts", format!("Illegal option -{}", char::from(letter)))?;
        }
    } else if takes {
        let argument = if at_end {
            index = index.saturating_add(1);
            list.get(index.saturating_sub(1)).cloned()
        } else {
            current.get(offset..).map(<[u8]>::to_vec)
        };
        match argument {
            Some(argument) => shell.assign(b"OPTARG", &argument)?,
            None if silent => {
                shell.assign(b"OPTARG", &[letter])?;
                result = b":".to_vec();
            }
            None => {
                shell.complain(b"getopts", format!("No arg for -{} option", char::from(letter)))?;
                result = b"?".to_vec();
            }
        }
        offset = usize::MAX;
    }
    if offset >= current.len() {
        index = index.saturating_add(1);
        offset = 0;
    }
    shell.assign(b"OPTIND", index.to_string().as_bytes())?;
    shell.environment.getopts_offset = offset;
    shell.assign(name, &result)?;
    Ok(0)
}

fn read(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
    let mut rest = arguments.get(1..).unwrap_or_default();
    let mut raw = false;
    while let Some(option) = rest.first().and_then(|first| first.strip_prefix(b"-")) {
        rest = rest.get(1..).unwrap_or_default();
        match option {
            b"r" => raw = true,
            b"p" => rest = rest.get(1..).unwrap_or_default(),
            b"-" => break,
            _ => return shell.usage(b"read", "the option is not interpreted"),
        }
    }
    let mut line: Vec<(u8, bool)> = Vec::new();
    let mut status = 0;
    loop {
        match shell.read_byte()? {
            None => {
                status = 1;
                break;
            }
            Some(b'\n') => break,
            Some(b'\\') if !raw => match shell.read_byte()? {
                None => {
                    status = 1;
                    break;
                }
                Some(b'\n') => {}
                Some(byte) => line.push((byte, true)),
            },
            Some(0) => {}
            Some(byte) => line.push((byte, false)),
        }
    }
    let names: Vec<Vec<u8>> = if rest.is_empty() {
        if shell.environment.dialect == Dialect::Posix {
            return fatal(shell, b"read", "arg count");
        }
        let text: Vec<u8> = line.iter().map(|&(byte, _)| byte).collect();
        shell.assign(b"REPLY", &text)?;
        return Ok(status);
    } else {
        rest.to_vec()
    };
    let ifs = shell.environment.variables.get(b"IFS").unwrap_or(b" \t\n").to_vec();
    for (name, value) in names.iter().zip(split_line(&line, &ifs, names.len())) {
        shell.assign(name, &value)?;
    }
    Ok(status)
}

/// The values of `count` variables read from a line; the last takes what is left.
fn split_line(line: &[(u8, bool)], ifs: &[u8], count: usize) -> Vec<Vec<u8>> {
    let space = |&(byte, quoted): &(u8, bool)| {
        !quoted && ifs.contains(&byte) && matches!(byte, b' ' | b'\t' | b'\n')
    };
    let delimiter = |&(byte, quoted): &(u8, bool)| !quoted && ifs.contains(&byte);
    let text = |part: &[(u8, bool)]| part.iter().map(|&(byte, _)| byte).collect::<Vec<u8>>();
    let mut rest = line;
    let skip = |rest: &mut &[(u8, bool)]| {
        while let Some((first, after)) = rest.split_first()
            && space(first)
        {
            *rest = after;
        }
    };
    let mut values = Vec::new();
    skip(&mut rest);
    while values.len().saturating_add(1) < count {
        let end = rest.iter().position(delimiter).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        values.push(text(field));
        rest = after;
        skip(&mut rest);
        if let Some((first, after)) = rest.split_first()
            && delimiter(first)
        {
            rest = after;
            skip(&mut rest);
        }
    }
    while let Some((last, before)) = rest.split_last()
        && space(last)
    {
        rest = before;
    }
    // One delimiter after a single last field ends it.
    if let Some((last, before)) = rest.split_last()
        && delimiter(last)
        && !before.iter().any(delimiter)
    {
        rest = before;
    }
    values.push(text(rest));
    values
}
