//! `DiskDescriptor.xml`: which files a Parallels disk is kept in, and which stands on which (QEMU's
//! `docs/interop/prl-xml.txt`).

use std::collections::BTreeMap;

use dormouse_block::{Error, Result, Source, read_vec_at};
use roxmltree::Node;

use crate::description::xml::{child, children, parse, text_of};

/// Bytes of the text: a disk with 500 snapshots has some 200 KiB.
const MAX_TEXT: u64 = 4 << 20;
/// Snapshots of one disk, and parts of it. Each of each is a file, of which an image has at most [`crate::MAX_PARTS`].
const MAX_SNAPSHOTS: usize = crate::MAX_PARTS;
/// Bytes of a sector, the unit of every size.
const SECTOR: u64 = 512;
/// The top of the tree, unless another is named.
const TOP: &str = "5fbaabe3-6958-40ff-92a7-860e329aab41";
/// No snapshot, and no encryption.
const NONE: &str = "00000000-0000-0000-0000-000000000000";

/// The text, validated. Snapshots go by the UUIDs of their images, in lower case without brackets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Parts of the disk, one after another, without holes.
    pub(super) storages: Vec<Storage>,
    /// What each snapshot was made on; a root on nothing.
    parents: BTreeMap<String, Option<String>>,
    /// Snapshots in the order of the text.
    pub(super) shots: Vec<String>,
    /// What the guest writes to.
    pub(super) top: String,
}

/// A part of the disk, and the files that it is kept in, by snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// Bytes.
    pub(super) len: u64,
    pub(super) images: BTreeMap<String, ImageFile>,
}

/// A file of a part of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageFile {
    /// As it is written there.
    pub(super) name: String,
    /// Nothing but the bytes of the part, instead of a Parallels image.
    pub(super) is_plain: bool,
}

impl Descriptor {
    /// Reads all of `file`.
    ///
    /// # Errors
    /// `Corrupt` for what contradicts itself, `Unsupported` for padded and encrypted disks, `Limit` for too many parts.
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        if file.len() > MAX_TEXT {
            return Err(Error::limit(format!(
                "a description of {} bytes is longer than the {MAX_TEXT} allowed",
                file.len()
            )));
        }
        let len = usize::try_from(file.len()).unwrap_or(usize::MAX);
        Self::parse(&String::from_utf8_lossy(&read_vec_at(file, 0, len)?))
    }

    fn parse(text: &str) -> Result<Self> {
        let document = parse(text.trim_start_matches('\u{feff}'))?;
        let root = document.root_element();
        if root.tag_name().name() != "Parallels_disk_image" {
            return Err(Error::corrupt("it describes no Parallels disk"));
        }
        let version = root.attribute("Version").unwrap_or_default();
        if version != "1.0" {
            return Err(Error::unsupported(format!(
                "a Parallels disk of unknown version {version:?}"
            )));
        }
        let parameters = part(root, "Disk_Parameters")?;
        if text_of(parameters, "Padding").is_some_and(|padding| padding != "0") {
            return Err(Error::unsupported("a padded Parallels disk"));
        }
        let engine = child(parameters, "Encryption").and_then(|node| text_of(node, "Engine"));
        if engine.is_some_and(|engine| !engine.is_empty() && uuid(engine) != NONE) {
            return Err(Error::unsupported("it is encrypted by Parallels"));
        }
        let size = bytes(parameters, "Disk_size")?;
        let storages = storages(part(root, "StorageData")?, size)?;
        let (parents, shots, top) = snapshots(child(root, "Snapshots"), &storages)?;
        let read = Self {
            size,
            storages,
            parents,
            shots,
            top,
        };
        read.chain(&read.top)?;
        Ok(read)
    }

    /// `shot` and what it stands on, the root last.
    ///
    /// # Errors
    /// `Corrupt` when the chain leads back to itself, or to a snapshot that there is not.
    pub(super) fn chain(&self, shot: &str) -> Result<Vec<&str>> {
        let mut chain = Vec::new();
        let mut next = Some(shot);
        while let Some(shot) = next {
            if chain.len() >= self.parents.len() {
                return Err(Error::corrupt("its snapshots lead back to themselves"));
            }
            let (known, parent) = self.parents.get_key_value(shot).ok_or_else(|| {
                Error::corrupt(format!("there is no snapshot {{{shot}}}, which it names"))
            })?;
            chain.push(known.as_str());
            next = parent.as_deref();
        }
        Ok(chain)
    }
}

fn part<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Result<Node<'a, 'i>> {
    child(node, name).ok_or_else(|| Error::corrupt(format!("it holds no <{name}>")))
}

/// The UUID called `name`, which an image or a snapshot goes by.
fn identifier(node: Node<'_, '_>, name: &str) -> Result<String> {
    let id = uuid(text_of(node, name).unwrap_or_default());
    let is_uuid = id.len() == NONE.len()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_uuid {
        Ok(id)
    } else {
        Err(Error::corrupt(format!("its <{name}> is no UUID")))
    }
}

/// A UUID as it is compared.
fn uuid(text: &str) -> String {
    let text = text.trim().trim_start_matches('{').trim_end_matches('}');
    dormouse_block::escape_terminal(&text.to_ascii_lowercase()).into_owned()
}

/// A count of sectors, as bytes.
fn bytes(node: Node<'_, '_>, name: &str) -> Result<u64> {
    let text = text_of(node, name).unwrap_or_default();
    let sectors: u64 = text
        .parse()
        .map_err(|_| Error::corrupt(format!("its <{name}> is no number")))?;
    sectors
        .checked_mul(SECTOR)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| Error::limit("the disk is larger than any host's files"))
}

/// The parts of a disk of `size` bytes.
fn storages(data: Node<'_, '_>, size: u64) -> Result<Vec<Storage>> {
    let mut found: Vec<(u64, Storage)> = Vec::new();
    for node in children(data, "Storage") {
        if found.len() >= MAX_SNAPSHOTS {
            return Err(Error::limit(format!("more than {MAX_SNAPSHOTS} parts")));
        }
        let (start, end) = (bytes(node, "Start")?, bytes(node, "End")?);
        let len = end
            .checked_sub(start)
            .ok_or_else(|| Error::corrupt("a part of it ends before it begins"))?;
        let mut images = BTreeMap::new();
        for image in children(node, "Image") {
            if images.len() >= MAX_SNAPSHOTS {
                return Err(Error::limit(format!("more than {MAX_SNAPSHOTS} images")));
            }
            let is_plain = match text_of(image, "Type") {
                Some("Plain") => true,
                Some("Compressed") => false,
                kind => {
                    return Err(Error::unsupported(format!(
                        "an image of unknown type {:?}",
                        kind.unwrap_or_default()
                    )));
                }
            };
            let id = identifier(image, "GUID")?;
            let name = text_of(image, "File").unwrap_or_default().to_owned();
            let file = ImageFile { name, is_plain };
            if images.insert(id.clone(), file).is_some() {
                return Err(Error::corrupt(format!("two of its images are {{{id}}}")));
            }
        }
        found.push((start, Storage { len, images }));
    }
    found.sort_by_key(|(start, _)| *start);
    let mut end = 0_u64;
    for (start, storage) in &found {
        if *start != end {
            return Err(Error::corrupt(format!(
                "one part ends at byte {end} and the next begins at {start}"
            )));
        }
        end = end.saturating_add(storage.len);
    }
    if end != size {
        return Err(Error::corrupt(format!(
            "its parts have {end} bytes and the disk has {size}"
        )));
    }
    Ok(found.into_iter().map(|(_, storage)| storage).collect())
}

/// Parents by snapshot, the snapshots in their order, and the top one.
type Tree = (BTreeMap<String, Option<String>>, Vec<String>, String);

fn snapshots(node: Option<Node<'_, '_>>, storages: &[Storage]) -> Result<Tree> {
    let mut parents = BTreeMap::new();
    let mut shots = Vec::new();
    for shot in node.into_iter().flat_map(|node| children(node, "Shot")) {
        if shots.len() >= MAX_SNAPSHOTS {
            return Err(Error::limit(format!("more than {MAX_SNAPSHOTS} snapshots")));
        }
        let id = identifier(shot, "GUID")?;
        let parent = identifier(shot, "ParentGUID")?;
        let parent = Some(parent).filter(|parent| parent != NONE);
        if parents.insert(id.clone(), parent).is_some() {
            return Err(Error::corrupt(format!("two of its snapshots are {{{id}}}")));
        }
        shots.push(id);
    }
    if shots.is_empty() {
        // A disk that never had a snapshot has one image, and may have no word for it.
        let mut images = storages.iter().flat_map(|storage| storage.images.keys());
        let only = images.next().cloned();
        let only = only.filter(|only| images.all(|other| other == only));
        let only = only.ok_or_else(|| Error::corrupt("it does not say which image is on top"))?;
        parents.insert(only.clone(), None);
        return Ok((parents, vec![only.clone()], only));
    }
    let named = node.and_then(|node| text_of(node, "TopGUID"));
    let top = named.map_or_else(|| TOP.to_owned(), uuid);
    Ok((parents, shots, top))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_block::ErrorKind;

    const A: &str = "{AAAAAAAA-0000-0000-0000-000000000001}";

    fn text(storage: &str, snapshots: &str) -> String {
        format!(
            "<?xml version='1.0'?><Parallels_disk_image Version=\"1.0\"><Disk_Parameters><Disk_size>16</Disk_size>\
             <Padding>0</Padding></Disk_Parameters><StorageData>{storage}</StorageData>{snapshots}</Parallels_disk_image>"
        )
    }

    fn storage(start: u64, end: u64, id: &str) -> String {
        format!(
            "<Storage><Start>{start}</Start><End>{end}</End><Image><GUID>{id}</GUID><Type>Plain</Type>\
             <File>a.hds</File></Image></Storage>"
        )
    }

    fn shot(id: &str, parent: &str) -> String {
        format!("<Shot><GUID>{id}</GUID><ParentGUID>{parent}</ParentGUID></Shot>")
    }

    #[test]
    fn one_image_needs_no_snapshots_and_the_top_has_a_name_of_its_own() {
        let read = Descriptor::parse(&text(&storage(0, 16, A), "")).unwrap();
        assert_eq!(read.size, 8192);
        assert_eq!(read.top, "aaaaaaaa-0000-0000-0000-000000000001");
        let top = format!("{{{TOP}}}");
        let tree = format!("<Snapshots>{}{}</Snapshots>", shot(A, NONE), shot(&top, A));
        let read = Descriptor::parse(&text(&storage(0, 16, A), &tree)).unwrap();
        assert_eq!(read.top, TOP);
        assert_eq!(
            read.chain(TOP).unwrap(),
            [TOP, "aaaaaaaa-0000-0000-0000-000000000001"]
        );
        let tree = format!(
            "<Snapshots><TopGUID>{A}</TopGUID>{}</Snapshots>",
            shot(A, NONE)
        );
        assert_eq!(
            Descriptor::parse(&text("", &tree)).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        let read = Descriptor::parse(&text(&storage(0, 16, A), &tree)).unwrap();
        assert_eq!(read.chain(&read.top).unwrap().len(), 1);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let whole = storage(0, 16, A);
        let loops = format!(
            "<Snapshots><TopGUID>{A}</TopGUID>{}</Snapshots>",
            shot(A, A)
        );
        let lost = format!("<Snapshots>{}</Snapshots>", shot(A, NONE));
        let twice = format!("<Snapshots>{0}{0}</Snapshots>", shot(A, NONE));
        let cases = [
            (ErrorKind::Corrupt, "lead back", text(&whole, &loops)),
            (
                ErrorKind::Corrupt,
                "there is no snapshot",
                text(&whole, &lost),
            ),
            (
                ErrorKind::Corrupt,
                "two of its snapshots",
                text(&whole, &twice),
            ),
            (
                ErrorKind::Corrupt,
                "the next begins",
                text(&storage(1, 16, A), ""),
            ),
            (
                ErrorKind::Corrupt,
                "and the disk has",
                text(&storage(0, 15, A), ""),
            ),
            (
                ErrorKind::Corrupt,
                "ends before",
                text(&storage(9, 8, A), ""),
            ),
            (
                ErrorKind::Limit,
                "larger than any",
                text(&storage(0, 1 << 60, A), ""),
            ),
            (
                ErrorKind::Corrupt,
                "is no UUID",
                text(&storage(0, 16, "active"), ""),
            ),
            (
                ErrorKind::Corrupt,
                "is no number",
                text(&whole, "").replace(">16<", ">x<"),
            ),
            (
                ErrorKind::Corrupt,
                "which image is on top",
                text("", "").replace(">16<", ">0<"),
            ),
            (
                ErrorKind::Unsupported,
                "padded",
                text(&whole, "").replace(">0</Padding", ">1</Padding"),
            ),
            (
                ErrorKind::Unsupported,
                "version",
                text(&whole, "").replace("\"1.0\"", "\"2.0\""),
            ),
            (
                ErrorKind::Unsupported,
                "type",
                text(&whole, "").replace("Plain", "Packed"),
            ),
            (
                ErrorKind::Unsupported,
                "encrypted",
                text(&whole, "").replace(
                    "<Padding>",
                    "<Encryption><Engine>{1}</Engine></Encryption><Padding>",
                ),
            ),
            (
                ErrorKind::Unsupported,
                "document type",
                format!("<!DOCTYPE x>{}", text(&whole, "")),
            ),
            (
                ErrorKind::Corrupt,
                "no XML",
                "<Parallels_disk_image".to_owned(),
            ),
        ];
        for (kind, word, text) in cases {
            let error = Descriptor::parse(&text).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(word), "{error} lacks {word:?}");
        }
    }
}
