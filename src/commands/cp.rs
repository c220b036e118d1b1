//! `dormouse cp`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dormouse_block::{Error, GuestPath, Locator};
use dormouse_filesystem::{Follow, Guest, NodeKind};

use super::target::{open_point, say, split};
use crate::cli::Copy;
use crate::exit::Exit;
use crate::settings::Settings;

/// Folders below each other that are copied.
const MAX_DEPTH: usize = 128;

/// Copies files and folders out of a guest. Names of the guest become host names one component at a time below the
/// target, which must be new; symbolic links are copied as links and never followed on the host.
///
/// # Errors
/// What cannot be read or written, and a target that is there already.
pub(crate) fn run(arguments: &Copy, settings: &Settings) -> anyhow::Result<Exit> {
    let (image, path) = split(&arguments.from)?;
    let (_, point) = open_point(&image, settings)?;
    let guest = point.only_guest()?;
    if fs::symlink_metadata(&arguments.to).is_ok() {
        bail!(
            "{} is there already; name a new file or folder",
            arguments.to.display()
        );
    }
    let mut exit = Exit::Done;
    let mut todo = vec![(path, arguments.to.clone(), Follow::Links, 0_usize)];
    while let Some((from, to, follow, depth)) = todo.pop() {
        let metadata = guest.metadata(&from, follow)?.ok_or_else(|| {
            Error::corrupt("no such file").located(&Locator::default().path(from.clone()))
        })?;
        match metadata.kind {
            NodeKind::File => copy_file(guest, &from, &to)?,
            NodeKind::Symlink => {
                let target = guest.read_link(&from)?.unwrap_or_default();
                let target: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&target);
                std::os::unix::fs::symlink(target, &to)
                    .with_context(|| format!("cannot make {}", to.display()))?;
            }
            NodeKind::Directory if depth < MAX_DEPTH => {
                fs::create_dir(&to).with_context(|| format!("cannot make {}", to.display()))?;
                for entry in guest.read_dir(&from)?.unwrap_or_default() {
                    let child = from.join(&entry.name)?;
                    todo.push((
                        child,
                        host_child(&to, &entry.name),
                        Follow::No,
                        depth.saturating_add(1),
                    ));
                }
            }
            NodeKind::Directory => bail!("{from}: folders are nested more than {MAX_DEPTH} deep"),
            kind => {
                say(&format!("{from}: a {kind:?} is not copied"));
                exit = Exit::Incomplete;
            }
        }
    }
    Ok(exit)
}

/// The name was checked to be one component when it became part of a guest path.
fn host_child(folder: &Path, name: &[u8]) -> PathBuf {
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
    folder.join(name)
}

fn copy_file(guest: &Guest, from: &GuestPath, to: &Path) -> anyhow::Result<()> {
    let mut file =
        fs::File::create_new(to).with_context(|| format!("cannot make {}", to.display()))?;
    guest.read_in_parts(from, |part| {
        file.write_all(part)
            .map_err(|error| Error::io("cannot write", error).in_file(to.display()))
    })?;
    Ok(())
}
