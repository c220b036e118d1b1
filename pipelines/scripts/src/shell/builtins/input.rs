//! `read` and `getopts`.

use super::{fatal, number};
use crate::shell::Shell;
use crate::stop::Run;
use crate::syntax::Dialect;

pub(super) fn getopts(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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
    let current = list
        .get(index.saturating_sub(1))
        .cloned()
        .unwrap_or_default();
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
            shell.complain(
                b"getopts",
                format!("Illegal option -{}", char::from(letter)),
            )?;
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
                shell.complain(
                    b"getopts",
                    format!("No arg for -{} option", char::from(letter)),
                )?;
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

pub(super) fn read(shell: &mut Shell<'_>, arguments: &[Vec<u8>]) -> Run<i32> {
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
    let ifs = shell
        .environment
        .variables
        .get(b"IFS")
        .unwrap_or(b" \t\n")
        .to_vec();
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
