//! What a command is pointed at: images, their restore points, and paths inside guests.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dormouse_block::{Error, Gap, GuestPath, Locator};
use dormouse_engine::{Found, OpenMachine, OpenPoint, discover};

use crate::exit::Exit;
use crate::settings::Settings;

/// What could not be opened at all, beside what could.
pub(crate) struct Opened {
    /// Machines that are open, with the restore points wanted of each.
    pub(crate) machines: Vec<(OpenMachine, Vec<String>)>,
    /// Images that could not be opened, and folders that could not be looked at.
    pub(crate) gaps: Vec<Gap>,
}

/// Opens every image of the arguments, and of the folders among them.
///
/// # Errors
/// A missing argument, and failures of the host.
pub(crate) fn open_all(images: &[PathBuf], settings: &Settings) -> anyhow::Result<Opened> {
    let mut opened = Opened {
        machines: Vec::new(),
        gaps: Vec::new(),
    };
    for argument in images {
        let library = discover(argument)?;
        opened.gaps.extend(library.gaps);
        if library.machines.is_empty() {
            bail!("no disk image was found in {}", argument.display());
        }
        for found in library.machines {
            let machine = open_found(argument, &found, settings)
                .and_then(|machine| Ok((points(&machine, settings)?, machine)));
            match machine {
                Ok((points, machine)) => opened.machines.push((machine, points)),
                Err(error) => match error.downcast::<Error>() {
                    Ok(error) if error.kind() != dormouse_block::ErrorKind::Cancelled => {
                        opened
                            .gaps
                            .push(Gap::from_error(&error, &Locator::machine(found.name)));
                    }
                    Ok(error) => return Err(error.into()),
                    Err(error) => return Err(error),
                },
            }
        }
    }
    Ok(opened)
}

/// Opens a machine of `library`, a folder or the machine itself.
fn open_found(library: &Path, found: &Found, settings: &Settings) -> anyhow::Result<OpenMachine> {
    let options = if library.is_dir() {
        settings.library_options(library)?
    } else {
        settings.machine_options(&found.path)?
    };
    Ok(OpenMachine::open_found(found, &options)?)
}

fn points(machine: &OpenMachine, settings: &Settings) -> anyhow::Result<Vec<String>> {
    match settings.global.point.as_deref() {
        Some("all") => Ok(machine.points().into_iter().map(|point| point.id).collect()),
        wanted => Ok(vec![machine.find_point(wanted.unwrap_or("active"))?.id]),
    }
}

/// The one restore point of one image that a command wants.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_point(
    image: &Path,
    settings: &Settings,
) -> anyhow::Result<(OpenMachine, OpenPoint)> {
    let mut machines = discover(image)?.machines;
    let (Some(found), true) = (machines.pop(), machines.is_empty()) else {
        bail!(
            "{} does not hold one machine; name its image or description",
            image.display()
        );
    };
    let machine = open_found(image, &found, settings)?;
    let wanted = settings.global.point.as_deref().unwrap_or("active");
    if wanted == "all" {
        bail!("this command takes one restore point; name it with --point");
    }
    let id = machine.find_point(wanted)?.id;
    let point = machine.open_point(&id)?;
    Ok((machine, point))
}

/// Splits `IMAGE:PATH`. The last colon before an absolute path counts.
///
/// # Errors
/// When there is no such colon, or the path cannot be one of a guest.
pub(crate) fn split(argument: &OsStr) -> anyhow::Result<(PathBuf, GuestPath)> {
    let bytes = argument.as_bytes();
    let at = bytes
        .windows(2)
        .rposition(|pair| pair == b":/")
        .with_context(|| {
            format!(
                "{} names no path in a guest; write IMAGE:/PATH",
                argument.to_string_lossy()
            )
        })?;
    let (image, path) = bytes.split_at_checked(at).unwrap_or((bytes, b""));
    let path = path.strip_prefix(b":").unwrap_or(path);
    let path =
        GuestPath::new(path).with_context(|| format!("in {}", argument.to_string_lossy()))?;
    Ok((PathBuf::from(OsStr::from_bytes(image)), path))
}

/// Says the gaps on standard error, and what they mean for the exit code.
#[must_use]
pub(crate) fn say_gaps<'a>(gaps: impl IntoIterator<Item = &'a Gap>, settings: &Settings) -> Exit {
    let mut exit = Exit::Done;
    for gap in gaps {
        if gap.may_hide_packages {
            exit = Exit::Incomplete;
        }
        if !settings.global.quiet && (gap.may_hide_packages || settings.global.verbose > 0) {
            say(&format!("not read: {gap}"));
            if let Some(advice) = advice(&gap.why) {
                say(&format!("  {advice}"));
            }
        }
    }
    exit
}

/// What a user can do about a refusal.
pub(crate) fn advice(why: &str) -> Option<&'static str> {
    if why.contains("outside the allowed folders") {
        Some("--allow-backing DIR allows a folder that backing files may come from")
    } else if why.contains("its format must be given") {
        Some("--image-format FORMAT says what the file is: raw to read it as the guest's own disk")
    } else if why.contains("it is encrypted with ") {
        Some("--luks-key FILE gives a key file, or a file that holds a passphrase")
    } else {
        None
    }
}

/// Says a line on standard error.
#[expect(clippy::print_stderr, reason = "notes are said on standard error")]
pub(crate) fn say(line: &str) {
    eprintln!("dormouse: {}", dormouse_block::escape_terminal(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colon_before_a_path_splits() {
        let (image, path) = split(OsStr::new("dir:x/a.qcow2:/etc/os-release")).unwrap();
        assert_eq!(image, Path::new("dir:x/a.qcow2"));
        assert_eq!(path.to_string(), "/etc/os-release");
        assert!(split(OsStr::new("a.qcow2")).is_err());
        assert!(split(OsStr::new("a.qcow2:/../x")).is_err());
    }
}
