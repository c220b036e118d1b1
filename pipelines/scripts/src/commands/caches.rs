//! Caches that whoever reads them does without when they are missing or outdated, and that are made anew in time: they
//! are not written here, and the outcome names them.
//!
//! The index of manual pages is made by man-db's own timer every day, and `man` reads the pages; fontconfig compares
//! each folder's time with its cache's, and reads the folder.

use crate::shell::Shell;
use crate::stop::Run;

pub(crate) fn mandb(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    shell.cache_left("the index of manual pages (mandb)");
    Ok(0)
}

pub(crate) fn fc_cache(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    shell.cache_left("the fonts' index (fc-cache)");
    Ok(0)
}

/// `setpriv`, by which man-db's trigger becomes the user of the index; other commands are not interpreted.
pub(crate) fn setpriv(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    while let Some(option) = rest.first().filter(|word| word.starts_with(b"--")) {
        let takes = matches!(option.as_slice(), b"--reuid" | b"--regid" | b"--groups");
        rest = rest.get(if takes { 2 } else { 1 }..).unwrap_or_default();
        if option == b"--" {
            break;
        }
    }
    match rest.first().map(Vec::as_slice) {
        Some(b"mandb" | b"/usr/bin/mandb") => mandb(shell, rest),
        _ => shell.usage(b"setpriv", "the command is not interpreted"),
    }
}
