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
