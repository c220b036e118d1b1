//! Bundles on the host: a folder or an ISO 9660 image with what machines need to catch up, signed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use dormouse_advisories::Repository;
use dormouse_block::{Digest, DigestReader, Error, Result};
use dormouse_evidence::{Envelope, Signer, Statement, Subject};
use dormouse_overlay::{IsoFile, write_iso};
use dormouse_remedy::{BUNDLE_LABEL, Bundle, CatchUp, MANIFEST_SEAL};
use serde::Serialize;
use serde_json::json;

use crate::change::guest_time;
use crate::host;
use crate::names::{file_name, machine_path};
use crate::payloads::open_by_digest;

/// What a statement about a bundle claims.
const PREDICATE: &str = "urn:dormouse:predicate:bundle:v1";

/// How a bundle is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BundleForm {
    /// As a folder.
    Folder,
    /// As an ISO 9660 image, to be attached to a machine.
    Iso,
}

impl BundleForm {
    /// The form that a name asks for: an image where it ends in `.iso`.
    #[must_use]
    pub fn of(target: &Path) -> Self {
        let iso = target
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("iso"));
        if iso { Self::Iso } else { Self::Folder }
    }
}

/// Where a bundle's files come from, and who signs it.
pub struct BundleOptions<'a> {
    /// The repositories that its package files are in.
    pub repositories: &'a [Repository],
    /// Who signs it.
    pub signer: &'a dyn Signer,
    /// Name and version of the program.
    pub tool: &'a str,
    /// Whether a bundle that is there already is replaced.
    pub replace: bool,
}

/// A bundle that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenBundle {
    /// What is in it.
    pub bundle: Bundle,
    /// Its bytes: of the image, or of all files of the folder.
    pub bytes: u64,
}

/// The name of a restore point's plan in a bundle.
#[must_use]
pub fn plan_name(plan: &CatchUp) -> String {
    let machine = plan.at.machine.as_deref().unwrap_or_default();
    let point = plan.at.point.as_deref().unwrap_or_default();
    format!("{}/{}", machine_path(machine), file_name(point))
}

/// Writes the bundle of `plans`, by their names, at `target`: complete, or not at all.
///
/// # Errors
/// Plans that no bundle can carry, a package file that no repository has or that is not what its index says, a target
/// that is there already, and a host that cannot write.
pub fn write_bundle(
    plans: &BTreeMap<String, CatchUp>,
    target: &Path,
    options: &BundleOptions<'_>,
) -> Result<WrittenBundle> {
    if !options.replace && target.symlink_metadata().is_ok() {
        return Err(Error::denied("it is there already").in_file(target.display()));
    }
    let bundle = Bundle::of(plans)?;
    let mut texts = bundle.texts(plans)?;
    texts.insert(MANIFEST_SEAL.to_owned(), seal(&bundle, &texts, options)?);
    let contents = Contents {
        bundle: &bundle,
        texts: &texts,
        repositories: options.repositories,
    };
    let bytes = match BundleForm::of(target) {
        BundleForm::Folder => contents.write_folder(target)?,
        BundleForm::Iso => contents.write_image(target)?,
    };
    Ok(WrittenBundle { bundle, bytes })
}

/// The signed statement about every file of the bundle.
fn seal(
    bundle: &Bundle,
    texts: &BTreeMap<String, Vec<u8>>,
    options: &BundleOptions<'_>,
) -> Result<Vec<u8>> {
    let subject = |path: &str, digest| Subject::new(format!("bundle:{path}"), digest);
    let subjects = texts
        .iter()
        .map(|(path, bytes)| subject(path, Digest::of(bytes)))
        .chain(
            bundle
                .packages
                .iter()
                .map(|(path, file)| subject(path, file.digest)),
        )
        .collect();
    let predicate = json!({
        "tool": options.tool,
        "as-of": bundle.as_of.to_string(),
        "plans": bundle.plans,
    });
    Envelope::seal(
        &Statement::new(subjects, PREDICATE, predicate),
        options.signer,
    )?
    .to_json()
}

/// All that is in a bundle.
struct Contents<'a> {
    bundle: &'a Bundle,
    texts: &'a BTreeMap<String, Vec<u8>>,
    repositories: &'a [Repository],
}

impl Contents<'_> {
    /// Each file's path and bytes, in their order.
    fn files(&self) -> Vec<IsoFile> {
        let texts = self.texts.iter().map(|(path, bytes)| IsoFile {
            path: path.clone(),
            len: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        });
        let packages = self.bundle.packages.iter().map(|(path, file)| IsoFile {
            path: path.clone(),
            len: file.size,
        });
        texts.chain(packages).collect()
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read>> {
        if let Some(bytes) = self.texts.get(path) {
            return Ok(Box::new(Cursor::new(bytes.clone())));
        }
        let file = self
            .bundle
            .packages
            .get(path)
            .ok_or_else(|| Error::corrupt(format!("{path} is not of this bundle")))?;
        let (name, _) = file.package.rsplit_once(':').unwrap_or((&file.package, ""));
        let payload = open_by_digest(self.repositories, name, &file.version, file.digest)?;
        Ok(Box::new(Held {
            from: Some(DigestReader::new(payload.reader())),
            path: path.to_owned(),
            digest: file.digest,
        }))
    }

    fn write_image(&self, target: &Path) -> Result<u64> {
        let fail = |error| Error::io("cannot write", error).in_file(target.display());
        let folder = folder_of(target);
        fs::create_dir_all(&folder).map_err(fail)?;
        let mut partial = tempfile::Builder::new()
            .prefix(".dormouse-")
            .suffix(".partial")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(&folder)
            .map_err(fail)?;
        let mut out = BufWriter::with_capacity(1 << 20, partial.as_file_mut());
        let bytes = write_iso(
            BUNDLE_LABEL,
            guest_time(self.bundle.as_of),
            &self.files(),
            &mut out,
            &mut |path| self.open(path),
        )
        .map_err(|error| error.in_file(target.display()))?;
        out.flush().map_err(fail)?;
        drop(out);
        partial.as_file().sync_all().map_err(fail)?;
        partial.persist(target).map_err(|error| fail(error.error))?;
        host::sync_folder(&folder)?;
        Ok(bytes)
    }

    fn write_folder(&self, target: &Path) -> Result<u64> {
        let fail = |error| Error::io("cannot write", error).in_file(target.display());
        let folder = folder_of(target);
        fs::create_dir_all(&folder).map_err(fail)?;
        let partial = tempfile::Builder::new()
            .prefix(".dormouse-")
            .suffix(".partial")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&folder)
            .map_err(fail)?;
        let mut bytes = 0_u64;
        for file in self.files() {
            let path = partial.path().join(&file.path);
            let fail = |error| Error::io("cannot write", error).in_file(path.display());
            fs::create_dir_all(folder_of(&path)).map_err(fail)?;
            let mut out = fs::File::create_new(&path).map_err(fail)?;
            std::io::copy(&mut self.open(&file.path)?, &mut out).map_err(fail)?;
            out.sync_all().map_err(fail)?;
            bytes = bytes.saturating_add(file.len);
        }
        for folder in folders_below(partial.path()).map_err(fail)? {
            host::sync_folder(&folder)?;
        }
        // A folder cannot be renamed onto one that holds something: what was there steps aside and is removed.
        let old = target
            .symlink_metadata()
            .is_ok()
            .then(|| {
                tempfile::Builder::new()
                    .prefix(".dormouse-")
                    .suffix(".old")
                    .tempdir_in(&folder)
            })
            .transpose()
            .map_err(fail)?;
        if let Some(old) = &old {
            fs::rename(target, old.path().join("bundle")).map_err(fail)?;
        }
        fs::rename(partial.keep(), target).map_err(fail)?;
        host::sync_folder(&folder)?;
        Ok(bytes)
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A folder and all below it, the deepest first.
fn folders_below(top: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = vec![top.to_owned()];
    let mut at = 0_usize;
    while let Some(folder) = folders.get(at).cloned() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        at = at.saturating_add(1);
    }
    folders.reverse();
    Ok(folders)
}

/// A package file whose bytes are held against its digest while they are copied.
struct Held<R> {
    from: Option<DigestReader<R>>,
    path: String,
    digest: Digest,
}

impl<R: Read> Read for Held<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Some(from) = &mut self.from else {
            return Ok(0);
        };
        let n = from.read(buf)?;
        if n == 0
            && !buf.is_empty()
            && let Some(from) = self.from.take()
            && from.finish().0 != self.digest
        {
            return Err(std::io::Error::other(Error::corrupt(format!(
                "{} changed while it was copied",
                self.path
            ))));
        }
        Ok(n)
    }
}
