//! `dormouse cat`.

use std::io::Write;

use dormouse_block::{Error, Locator};

use super::target::{open_point, split};
use crate::cli::Paths;
use crate::exit::Exit;
use crate::settings::Settings;

/// Writes guests' files to standard output, or to the output file.
///
/// # Errors
/// What cannot be read or written.
pub(crate) fn run(arguments: &Paths, settings: &Settings) -> anyhow::Result<Exit> {
    let mut sink: Box<dyn Write> = match &settings.global.output {
        Some(path) => Box::new(std::fs::File::create_new(path)?),
        None => Box::new(std::io::stdout().lock()),
    };
    for argument in &arguments.paths {
        let (image, path) = split(argument)?;
        let (_, point) = open_point(&image, settings)?;
        let read = point.only_guest()?.read_in_parts(&path, |part| {
            sink.write_all(part)
                .map_err(|error| Error::io("cannot write the answer", error))
        })?;
        if read.is_none() {
            return Err(Error::corrupt("no such file")
                .located(&Locator::default().path(path))
                .into());
        }
    }
    sink.flush()?;
    Ok(Exit::Done)
}
