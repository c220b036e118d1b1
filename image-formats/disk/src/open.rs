//! Opening an image and everything it refers to.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, HostFile, Meter, Metered, Result, Source, window};
use dormouse_encryption::{Budget, Keys};

use crate::decoder::Compression;
use crate::format::{format_named, recognise};
use crate::units::FileUnits;
use crate::{Chain, ChainFile, FormatName, Gate, Image, Reference, Role, UnitCache};

/// Files of one chain: QEMU has no limit of its own, people's chains have a dozen.
pub const MAX_CHAIN: usize = 64;

/// Extents and data files of one chain, each an open file: a terabyte in VMware's pieces of 2 GiB.
pub const MAX_PARTS: usize = 512;

/// Files of one folder that are looked at for a parent that is known by an id alone.
pub const MAX_NEIGHBOURS: usize = 256;

/// How to open an image.
#[derive(Clone)]
pub struct OpenOptions {
    /// Its format, if the caller knows; it is recognised otherwise.
    pub format: Option<FormatName>,
    /// Asked before any file that an image names is opened.
    pub gate: Arc<dyn Gate>,
    /// Counts every byte read from host files.
    pub meter: Meter,
    /// Keys that may unlock encrypted images.
    pub keys: Keys,
    /// Decoded units of compressed images, shared by all that are opened with it.
    pub units: UnitCache,
}

impl OpenOptions {
    /// Recognise the format, ask `gate`, read without a budget and without keys.
    #[must_use]
    pub fn new(gate: Arc<dyn Gate>) -> Self {
        Self {
            format: None,
            gate,
            meter: Meter::unlimited(),
            keys: Keys::default(),
            units: UnitCache::default(),
        }
    }

    /// The same, with the format given.
    #[must_use]
    pub fn format(mut self, format: FormatName) -> Self {
        self.format = Some(format);
        self
    }

    /// The same, with these keys for what is encrypted.
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// The same, with decoded units kept in `units`.
    #[must_use]
    pub fn units(mut self, units: UnitCache) -> Self {
        self.units = units;
        self
    }

    /// The same, counting on `meter`.
    #[must_use]
    pub fn meter(mut self, meter: Meter) -> Self {
        self.meter = meter;
        self
    }
}

/// A host file that is about to be opened as an image.
pub struct OpenFile {
    pub(crate) host: Arc<HostFile>,
    pub(crate) source: Arc<dyn Source>,
    role: Role,
    named: Option<String>,
    /// What it is called within an archive, when it is a part of one.
    member: Option<String>,
    /// Where in the host file it begins.
    start: u64,
    units: UnitCache,
}

impl OpenFile {
    /// The file's bytes.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.host.path()
    }

    /// A chain that begins with this file.
    #[must_use]
    pub fn chain(&self, format: FormatName) -> Chain {
        let mut chain = Chain::default();
        chain.push(
            ChainFile {
                path: self.host.path().to_owned(),
                named: self.named.clone(),
                role: self.role,
                format,
                identity: self.host.identity().clone(),
                encryption: None,
            },
            self.host.clone(),
        );
        chain
    }

    /// Its compressed units.
    pub(crate) fn units(&self, compression: Compression) -> FileUnits {
        self.units.of(self.host.identity(), self.start, compression)
    }

    fn extension(&self) -> &str {
        let name = self.member.as_deref().map(Path::new);
        name.unwrap_or_else(|| self.path())
            .extension()
            .and_then(OsStr::to_str)
            .unwrap_or("")
    }
}

/// Opens the files of one chain: through the gate, never one twice, never too many.
pub struct Opener<'a> {
    options: &'a OpenOptions,
    ancestors: Vec<(u64, u64)>,
    parts: usize,
    /// Work that is left for deriving keys.
    budget: Budget,
}

impl<'a> Opener<'a> {
    fn new(options: &'a OpenOptions) -> Self {
        Self {
            options,
            ancestors: Vec::new(),
            parts: 0,
            budget: Budget::default(),
        }
    }

    /// The keys that were given.
    pub(crate) fn keys(&self) -> &'a Keys {
        &self.options.keys
    }

    /// Work that is left for deriving keys.
    pub(crate) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    fn open_file(&mut self, path: &Path, role: Role, named: Option<String>) -> Result<OpenFile> {
        if self.ancestors.len() >= MAX_CHAIN {
            return Err(Error::limit(format!(
                "the backing chain is longer than {MAX_CHAIN} files"
            ))
            .in_file(path.display()));
        }
        let file = self.host_file(path, role, named)?;
        let identity = (file.host.identity().device, file.host.identity().inode);
        if self.ancestors.contains(&identity) {
            return Err(
                Error::corrupt("the backing chain leads back to itself").in_file(path.display())
            );
        }
        self.ancestors.push(identity);
        Ok(file)
    }

    fn open_image(&mut self, file: OpenFile, format: Option<FormatName>) -> Result<Box<dyn Image>> {
        let path = file.path().to_owned();
        let format = match format {
            Some(name) => format_named(name),
            None => recognise(&*file.source, file.extension()),
        };
        format
            .and_then(|format| format.open(file, self))
            .map_err(|error| error.in_file(path.display()))
    }

    /// Opens what `from` refers to as `named`. A relative name is resolved against the folder of `from`.
    ///
    /// # Errors
    /// `Denied` when the gate says no or the name asks for another protocol, `Corrupt` when the chain leads back to
    /// itself or its file is missing, `Limit` when it is too long, and whatever keeps that image from being opened.
    pub fn open_reference(
        &mut self,
        from: &OpenFile,
        named: &[u8],
        role: Role,
        format: Option<FormatName>,
    ) -> Result<Box<dyn Image>> {
        let path = self.permit(from, named, role)?;
        let named = String::from_utf8_lossy(named).into_owned();
        let file = self.open_file(&path, role, Some(named))?;
        self.open_image(file, format)
    }

    /// Opens the first of `names` that may be opened and is there, as [`Opener::open_reference`] does. Formats of
    /// desktop hypervisors keep several names of one parent, most of them of another machine's folders.
    ///
    /// # Errors
    /// As [`Opener::open_reference`]; when none of them may be opened, why the first may not.
    pub fn open_any(
        &mut self,
        from: &OpenFile,
        names: &[Vec<u8>],
        role: Role,
        format: FormatName,
    ) -> Result<Box<dyn Image>> {
        let (path, named) = self.permit_any(from, names, role)?;
        let file = self.open_file(&path, role, Some(named))?;
        self.open_image(file, Some(format))
    }

    /// Where the first of `names` leads that may be opened and is there, and that name.
    fn permit_any(
        &self,
        from: &OpenFile,
        names: &[Vec<u8>],
        role: Role,
    ) -> Result<(PathBuf, String)> {
        let mut first = None;
        for named in names {
            match self.permit(from, named, role) {
                Ok(path) => return Ok((path, String::from_utf8_lossy(named).into_owned())),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first
            .unwrap_or_else(|| Error::corrupt(format!("it does not name its {}", role.as_str()))))
    }

    /// Opens a file that holds a part of what `from` maps: an extent, or a data file. It is bytes, and refers to
    /// nothing further.
    ///
    /// # Errors
    /// As [`Opener::open_reference`]; `Limit` when there are more than [`MAX_PARTS`].
    pub fn open_part(&mut self, from: &OpenFile, named: &[u8], role: Role) -> Result<OpenFile> {
        self.open_any_part(from, &[named.to_vec()], role)
    }

    /// The same, with the first of `names` that may be opened and is there.
    ///
    /// # Errors
    /// As [`Opener::open_part`] and [`Opener::open_any`].
    pub fn open_any_part(
        &mut self,
        from: &OpenFile,
        names: &[Vec<u8>],
        role: Role,
    ) -> Result<OpenFile> {
        if self.parts >= MAX_PARTS {
            return Err(Error::limit(format!(
                "the image is kept in more than {MAX_PARTS} files"
            )));
        }
        self.parts = self.parts.saturating_add(1);
        let (path, named) = self.permit_any(from, names, role)?;
        self.host_file(&path, role, Some(named))
    }

    /// The names of the files beside `from`, and in the folder above, whose extension is `extension` in any case: for
    /// formats that know a parent by an id alone. The caller opens them through the gate like any other name.
    ///
    /// # Errors
    /// `Io` when the folder cannot be listed, `Limit` when it holds more than [`MAX_NEIGHBOURS`] such files.
    pub fn neighbours(&self, from: &OpenFile, extension: &str) -> Result<Vec<Vec<u8>>> {
        let folder = match from.path().parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut names = Vec::new();
        for above in ["", "../"] {
            let folder = folder.join(above);
            let failed = |error| Error::io("cannot list", error).in_file(folder.display());
            let mut found = Vec::new();
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                // The folder above may be none of ours.
                Err(_) if !above.is_empty() => continue,
                Err(error) => return Err(failed(error)),
            };
            for entry in entries {
                let name = entry.map_err(failed)?.file_name();
                let fits = Path::new(&name)
                    .extension()
                    .is_some_and(|found| found.eq_ignore_ascii_case(extension));
                if !fits || Some(name.as_os_str()) == from.path().file_name() && above.is_empty() {
                    continue;
                }
                if found.len() >= MAX_NEIGHBOURS {
                    return Err(Error::limit(format!(
                        "more than {MAX_NEIGHBOURS} files may be its parent"
                    ))
                    .in_file(folder.display()));
                }
                found.push([above.as_bytes(), name.as_bytes()].concat());
            }
            found.sort();
            names.extend(found);
        }
        Ok(names)
    }

    fn permit(&self, from: &OpenFile, named: &[u8], role: Role) -> Result<PathBuf> {
        let path = resolve(from.path(), named, role)?;
        self.options.gate.permit(&Reference {
            from: from.path(),
            role,
            path: &path,
        })
    }

    fn host_file(&self, path: &Path, role: Role, named: Option<String>) -> Result<OpenFile> {
        let host = Arc::new(HostFile::open(path)?);
        let source: Arc<dyn Source> =
            Arc::new(Metered::new(host.clone(), self.options.meter.clone()));
        Ok(OpenFile {
            host,
            source,
            role,
            named,
            member: None,
            start: 0,
            units: self.options.units.clone(),
        })
    }
}

/// The path that a name inside an image stands for, as QEMU takes it.
pub(crate) fn resolve(from: &Path, named: &[u8], role: Role) -> Result<PathBuf> {
    let shown = String::from_utf8_lossy(named);
    if named.is_empty() || named.contains(&0) {
        return Err(Error::corrupt(format!(
            "the name of its {} is not a path",
            role.as_str()
        )));
    }
    let named = named.strip_prefix(b"file:").unwrap_or(named);
    // A colon before the first slash: a protocol (`nbd:`, `https:`) or a description of options (`json:`).
    let protocol = named
        .iter()
        .position(|&byte| byte == b':' || byte == b'/')
        .filter(|&at| named.get(at) == Some(&b':'));
    if let Some(end) = protocol {
        let name = String::from_utf8_lossy(named.get(..end).unwrap_or_default()).into_owned();
        return Err(Error::denied(format!(
            "its {} {shown} asks for the {name:?} protocol; only local files are opened",
            role.as_str()
        )));
    }
    let path = Path::new(OsStr::from_bytes(named));
    let folder = from.parent().unwrap_or(Path::new(""));
    Ok(folder.join(path))
}

/// A part of a host file that is an image of its own, such as a disk in an OVA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is called there.
    pub name: String,
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// Opens the image that is the part `member` of the file at `path`, as [`open`] does.
///
/// # Errors
/// As [`open`]; `Corrupt` when the part does not lie within the file.
pub fn open_member(path: &Path, member: &Member, options: &OpenOptions) -> Result<Box<dyn Image>> {
    let mut opener = Opener::new(options);
    let mut file = opener.open_file(path, Role::Image, Some(member.name.clone()))?;
    let part = window(file.source, member.offset, member.size)
        .map_err(|error| error.in_file(path.display()))?;
    file.source = Arc::new(part);
    file.member = Some(member.name.clone());
    file.start = member.offset;
    opener.open_image(file, options.format)
}

/// The files that the image at `path` is kept in, if it is no more than a description of them, as VMware's and Parallels' are:
/// they are parts of one disk, and no disks by themselves. What cannot be read names none.
#[must_use]
pub fn extents_named(path: &Path) -> Vec<PathBuf> {
    let mut named = crate::vmdk::extents_named(path);
    named.extend(crate::parallels::images_named(path));
    named
}

/// Opens the image at `path` and its whole backing chain.
///
/// # Errors
/// `Io` when the host cannot read it; `Denied` when the gate or a suspicious name forbids it; `Unsupported`,
/// `Corrupt` and `Limit` as the formats say. The message names the file of the chain that failed.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Image>> {
    let mut opener = Opener::new(options);
    let file = opener.open_file(path, Role::Image, None)?;
    opener.open_image(file, options.format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::ErrorKind;

    #[test]
    fn names_resolve_beside_the_image_and_protocols_are_refused() {
        let from = Path::new("/library/vm/overlay.qcow2");
        let at = |named: &[u8]| resolve(from, named, Role::Backing);
        assert_eq!(at(b"base.raw").unwrap(), Path::new("/library/vm/base.raw"));
        assert_eq!(at(b"file:base").unwrap(), Path::new("/library/vm/base"));
        assert_eq!(at(b"/x/base").unwrap(), Path::new("/x/base"));
        assert_eq!(at(b"./a:b").unwrap(), Path::new("/library/vm/./a:b"));
        for refused in [
            &b"json:{\"driver\":\"raw\"}"[..],
            b"nbd:localhost:10809",
            b"https://example.org/x",
            b"fat:rw:/etc",
        ] {
            assert_eq!(at(refused).unwrap_err().kind(), ErrorKind::Denied);
        }
        assert_eq!(at(b"").unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(at(b"a\0b").unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
