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
