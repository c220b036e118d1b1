//! `perl`, for the one-line programs that Debian's own shell scripts call by the letter. Perl itself is not interpreted.

use super::text::lines;
use crate::call::Reason;
use crate::shell::Shell;
use crate::stop::Run;

/// Prints every line with what is no word character quoted (`ucf`).
const QUOTE_LINES: &[u8] = b"print \"\\Q$_\\E\\n\"";

pub(crate) fn perl(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    match words {
        [_, options, program] if options == b"-nle" && program == QUOTE_LINES => {
            let text = shell.read_all()?;
            let mut out = Vec::new();
            for line in lines(&text) {
                for &byte in line {
                    if byte != b'_' && !byte.is_ascii_alphanumeric() {
                        out.push(b'\\');
                    }
                    out.push(byte);
                }
                // One newline is the program's, the other -l's.
                out.extend_from_slice(b"\n\n");
            }
            shell.out(&out)?;
            Ok(0)
        }
        [_, options, program, file] if options == b"-lne" && ssh_option(program).is_some() => {
            let option = ssh_option(program).unwrap_or_default();
            match shell.files.read(file)? {
                Ok(text) => {
                    let out = ssh_values(&text, &option);
                    shell.out(&out)?;
                    Ok(0)
                }
                Err(errno) => {
                    let name = String::from_utf8_lossy(file).into_owned();
                    shell.complain(b"perl", format!("Can't open {name}: {errno}."))?;
                    Ok(0)
                }
            }
        }
        // Whether there is a perl at all.
        [_, option, program] if option == b"-e" && program.is_empty() => Ok(0),
        [_, option, program, ..] if option == b"-e" && becomes_mandb(program) => {
            super::caches::mandb(shell, &[])
        }
        _ => shell.refuse(
            Reason::Command,
            b"perl",
            "is a program that is not interpreted",
        ),
    }
}

/// man-db's trigger, which becomes the user of the index and then makes it: blanks apart, the program of each release.
fn becomes_mandb(program: &[u8]) -> bool {
    const PROGRAMS: &[&str] = &[
        "@pwd = getpwnam(\"man\"); $) = $( = $pwd[3]; $> = $< = $pwd[2]; exec \"/usr/bin/mandb\", @ARGV",
        "@pwd = getpwnam(\"man\"); $( = $) = $pwd[3]; $< = $> = $pwd[2]; exec \"/usr/bin/mandb\", @ARGV",
    ];
    let text = String::from_utf8_lossy(program);
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    PROGRAMS.contains(&text.as_str())
}

/// The option that openssh-server's scripts look for in its settings, by this program.
fn ssh_option(program: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(program).ok()?;
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let option = text
        .strip_prefix("s/[[:space:]]+/ /g; s/[[:space:]]+$//; print if s/^[[:space:]]*")?
        .strip_suffix("[[:space:]=]+//i")?;
    (!option.is_empty() && option.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .then(|| option.to_owned())
}

/// The values of an option, one in a line, blanks within them made one.
fn ssh_values(text: &[u8], option: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines(text) {
        let words: Vec<&[u8]> = line
            .split(|&byte| byte.is_ascii_whitespace() || byte == 0x0b)
            .filter(|word| !word.is_empty())
            .collect();
        let line = words.join(&b' ');
        let Some((head, rest)) = line.split_at_checked(option.len()) else {
            continue;
        };
        let value = rest
            .iter()
            .position(|byte| !b" =".contains(byte))
            .unwrap_or(rest.len());
        if head.eq_ignore_ascii_case(option.as_bytes()) && value > 0 {
            out.extend_from_slice(rest.get(value..).unwrap_or_default());
            out.push(b'\n');
        }
    }
    out
}
