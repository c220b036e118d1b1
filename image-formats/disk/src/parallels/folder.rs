//! A `.hdd` folder: a disk in several files that `DiskDescriptor.xml` puts together, with a snapshot for each layer.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse_block::{Error, ErrorKind, HostFile, Result, Source, window};

use super::Table;
use super::descriptor::{Descriptor, ImageFile};
use crate::image::no_point;
use crate::mapped::{Below, Concatenated, Mapped};
use crate::parents::candidates;
use crate::{
    ACTIVE, Chain, FormatName, Image, OpenFile, Opener, PointInfo, PointKind, Role, State,
};

/// The files that the Parallels disk described by `path` is kept in, if it is such a description: they are parts of one disk,
/// and no disks by themselves. What cannot be read names none.
pub(crate) fn images_named(path: &Path) -> Vec<PathBuf> {
    let read = || Descriptor::read(&HostFile::open(path)?);
    let folder = path.parent().unwrap_or(Path::new(""));
    let Ok(descriptor) = read() else {
        return Vec::new();
    };
    let images = descriptor.storages.iter();
    let names = images.flat_map(|storage| storage.images.values());
    names
        .flat_map(|file| candidates(file.name.as_bytes()))
        .map(|name| folder.join(OsStr::from_bytes(&name)))
        .collect()
}

/// Opens the disk that `file` describes.
///
/// # Errors
/// As [`Descriptor::read`]; what keeps a file of the active state from being opened, and the host's own failures.
pub(super) fn open(file: &OpenFile, opener: &mut Opener<'_>) -> Result<Box<dyn Image>> {
    let descriptor = Descriptor::read(&*file.source)?;
    let active = descriptor.chain(&descriptor.top)?;
    let mut chain = file.chain(FormatName::PARALLELS);
    let mut layers = Vec::new();
    for storage in &descriptor.storages {
        let mut opened = BTreeMap::new();
        // The active state's files come first, from the top down, as in every other chain.
        let others = storage.images.keys().map(String::as_str);
        let others = others.filter(|shot| !active.contains(shot));
        for shot in active.iter().copied().chain(others) {
            let layer = storage
                .images
                .get(shot)
                .ok_or_else(|| Error::corrupt(format!("a part of it has no image {{{shot}}}")))
                .and_then(|image| layer(file, image, opener, &mut chain));
            match layer {
                Ok(layer) => opened.insert(shot.to_owned(), Ok(layer)),
                Err(error)
                    if active.contains(&shot)
                        || matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) =>
                {
                    return Err(error);
                }
                // What only a snapshot needs keeps nobody from the rest.
                Err(error) => opened.insert(shot.to_owned(), Err(error)),
            };
        }
        layers.push((storage.len, opened));
    }
    let mut points = vec![PointInfo::active(descriptor.size)];
    points.extend(
        descriptor
            .shots
            .iter()
            .filter(|shot| **shot != descriptor.top)
            .map(|shot| PointInfo {
                id: shot.clone(),
                name: shot.clone(),
                kind: PointKind::Layer,
                ..PointInfo::active(descriptor.size)
            }),
    );
    let image = Folder {
        path: file.path().display().to_string(),
        dirty: layers
            .iter()
            .filter_map(|(_, opened)| opened.get(&descriptor.top)?.as_ref().ok())
            .any(|layer| layer.in_use),
        chain,
        points,
        descriptor,
        layers,
    };
    // What is wrong with the active state is known at once, as with other formats.
    image.open_point(ACTIVE)?;
    Ok(Box::new(image))
}

/// A file of the disk.
struct Layer {
    path: String,
    source: Arc<dyn Source>,
    is_plain: bool,
    in_use: bool,
}

fn layer(
    from: &OpenFile,
    image: &ImageFile,
    opener: &mut Opener<'_>,
    chain: &mut Chain,
) -> Result<Layer> {
    let part = opener.open_any_part(from, &candidates(image.name.as_bytes()), Role::Extent)?;
    let path = part.path().display().to_string();
    let mut in_use = false;
    let format = if image.is_plain {
        FormatName::RAW
    } else {
        let (_, _, open) = Table::read(&part.source).map_err(|error| error.in_file(&path))?;
        in_use = open;
        FormatName::PARALLELS
    };
    chain.extend(&part.chain(format));
    Ok(Layer {
        path,
        source: part.source,
        is_plain: image.is_plain,
        in_use,
    })
}

impl Layer {
    /// The part of `len` bytes that this file makes of the one below.
    fn over(&self, below: Option<Arc<dyn Source>>, len: u64) -> Result<Arc<dyn Source>> {
        let too_small =
            |there: u64| Error::corrupt(format!("it holds {there} bytes of a part that has {len}"));
        if self.is_plain {
            if below.is_some() {
                return Err(Error::corrupt("a plain image cannot stand on another"));
            }
            if self.source.len() < len {
                return Err(too_small(self.source.len()));
            }
            return Ok(Arc::new(window(self.source.clone(), 0, len)?));
        }
        let (table, size, _) = Table::read(&self.source)?;
        if size < len {
            return Err(too_small(size));
        }
        Ok(Arc::new(Mapped::new(
            self.path.clone(),
            self.source.clone(),
            len,
            Box::new(move |offset, limit| table.locate(offset, limit)),
            below.map(Below::whole),
        )))
    }
}

struct Folder {
    /// The name of the description, for errors.
    path: String,
    chain: Chain,
    /// The active state first.
    points: Vec<PointInfo>,
    descriptor: Descriptor,
    /// The bytes of each part of the disk, and its files by snapshot.
    layers: Vec<(u64, BTreeMap<String, Result<Layer>>)>,
    dirty: bool,
}

impl Folder {
    /// One part of the disk at the end of `chain`, whose root comes last.
    fn part(
        &self,
        chain: &[&str],
        len: u64,
        layers: &BTreeMap<String, Result<Layer>>,
    ) -> Result<Arc<dyn Source>> {
        let mut below = None;
        for shot in chain.iter().rev() {
            let layer = match layers.get(*shot) {
                Some(Ok(layer)) => layer,
                Some(Err(error)) => return Err(Error::new(error.kind(), error.with_causes())),
                None => {
                    return Err(
                        Error::corrupt(format!("a part of it has no image {{{shot}}}"))
                            .in_file(&self.path),
                    );
                }
            };
            let over = layer.over(below, len);
            below = Some(over.map_err(|error| error.in_file(&layer.path))?);
        }
        below.ok_or_else(|| Error::corrupt("a chain of no image").in_file(&self.path))
    }
}

impl Image for Folder {
    fn format(&self) -> FormatName {
        FormatName::PARALLELS
    }

    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn virtual_size(&self) -> u64 {
        self.descriptor.size
    }

    fn state(&self) -> State {
        State {
            dirty: self.dirty,
            ..State::default()
        }
    }

    fn points(&self) -> &[PointInfo] {
        &self.points
    }

    fn open_point(&self, id: &str) -> Result<Arc<dyn Source>> {
        let shot = match self.points.iter().find(|point| point.id == id) {
            Some(point) if point.id == ACTIVE => self.descriptor.top.as_str(),
            Some(point) => point.id.as_str(),
            None => return Err(no_point(id, &self.points)),
        };
        let chain = self
            .descriptor
            .chain(shot)
            .map_err(|error| error.in_file(&self.path))?;
        let parts = self.layers.iter();
        let parts: Vec<_> = parts
            .map(|(len, layers)| self.part(&chain, *len, layers))
            .collect::<Result<_>>()?;
        match parts.as_slice() {
            [only] => Ok(only.clone()),
            _ => Ok(Arc::new(Concatenated::new(parts)?)),
        }
    }

    fn memory(&self, id: &str) -> Result<Option<Arc<dyn Source>>> {
        self.open_point(id).map(|_| None)
    }
}
