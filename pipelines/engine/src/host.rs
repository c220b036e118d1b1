//! Host files of our own: bounded reads of small texts, and writes that are complete or not there.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use dormouse_block::{Error, Result};

/// The text of a host file of at most `limit` bytes.
///
/// # Errors
/// `Io` when it cannot be read, `Limit` when it is longer, `Corrupt` when it is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    let bytes = read_bytes(path, limit)?;
    String::from_utf8(bytes).map_err(|_| Error::corrupt("not UTF-8 text").in_file(path.display()))
}

/// The bytes of a host file of at most `limit` bytes.
///
/// # Errors
/// `Io` when it cannot be read, `Limit` when it is longer.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let fail = |error| Error::io("cannot read", error).in_file(path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(fail)?;
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(Error::limit(format!("longer than {limit} bytes")).in_file(path.display()));
    }
    Ok(bytes)
}

/// Writes `bytes` under `path`: into a partial file beside it, synced, and renamed into place; the folder is made
/// when it is missing. Whoever sees `path` sees all of it.
///
/// # Errors
/// `Io` when the host cannot.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |error| Error::io("cannot write", error).in_file(path.display());
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(fail)?;
    let mut file = tempfile::Builder::new()
        .prefix(".dormouse-")
        .suffix(".partial")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    sync_folder(folder)
}

/// Makes a rename within `folder` outlast a power failure.
///
/// # Errors
/// `Io` when the host cannot.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let fail = |error| Error::io("cannot sync", error).in_file(folder.display());
    fs::File::open(folder)
        .map_err(fail)?
        .sync_all()
        .map_err(fail)
}
