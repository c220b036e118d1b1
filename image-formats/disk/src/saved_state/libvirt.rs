//! What `virsh save` and `virsh managedsave` write (libvirt, `src/qemu/qemu_saveimage.h`): a header, the domain's XML, and
//! QEMU's migration stream, packed or not.

use std::sync::Arc;

use dormouse_block::{Error, Result, Source, le_u32, read_vec_at};

use super::pieces::Pieces;
use super::stream::Stream;
use super::{Looked, Reading, Signs, StateFormat, StateMeaning, packed, qemu};

/// A finished state, and one that is being written or was broken off.
const FINISHED: &[u8; 16] = b"LibvirtQemudSave";
const UNFINISHED: &[u8; 16] = b"LibvirtQemudPart";
/// Bytes of the header: the magic, five numbers, and fourteen unused.
const HEADER: usize = 92;
/// Versions that exist.
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=3;
/// Bytes of the XML and what libvirt puts behind it.
const MAX_TEXT: u64 = 16 << 20;
/// What the fifth number says of the stream, by its value: `virQEMUSaveFormat`.
const PACKINGS: [&str; 7] = ["raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse"];

/// The format.
pub(super) const FORMAT: StateFormat = StateFormat {
    name: "libvirt save",
    is_verified: true,
    beside: &[],
    recognise,
    read,
};

/// Whether a file that begins with `head` is such a state.
pub(crate) fn probe(head: &[u8]) -> bool {
    head.starts_with(FINISHED) || head.starts_with(UNFINISHED)
}

/// The header of such a state.
pub(crate) struct Header {
    is_finished: bool,
    was_running: bool,
    packing: u32,
    /// Bytes of the XML, its NUL, a cookie of libvirt's own, and padding.
    text: u64,
}

impl Header {
    /// Reads the header.
    ///
    /// # Errors
    /// `Corrupt` when it is cut off, `Unsupported` for versions that do not exist, `Limit` for a long XML.
    pub(crate) fn read(source: &dyn Source) -> Result<Self> {
        let header = read_vec_at(source, 0, HEADER)?;
        let number = |at: usize| le_u32(&header, at);
        // Numbers are in the order of the host that saved; the version tells which.
        let version = number(16)?;
        let swapped = !VERSIONS.contains(&version);
        let of = |value: u32| if swapped { value.swap_bytes() } else { value };
        if !VERSIONS.contains(&of(version)) {
            return Err(Error::unsupported(format!(
                "version {version} of libvirt's saved states"
            )));
        }
        let text = u64::from(of(number(20)?));
        if text > MAX_TEXT {
            return Err(Error::limit(format!(
                "an XML of {text} bytes in a saved state"
            )));
        }
        Ok(Self {
            is_finished: header.starts_with(FINISHED),
            was_running: of(number(24)?) != 0,
            packing: of(number(28)?),
            text,
        })
    }

    /// The domain's XML.
    ///
    /// # Errors
    /// `Corrupt` when it is cut off.
    pub(crate) fn xml(&self, source: &dyn Source) -> Result<String> {
        let at = u64::try_from(HEADER).unwrap_or(u64::MAX);
        let len = usize::try_from(self.text).unwrap_or(usize::MAX);
        let bytes = read_vec_at(source, at, len)?;
        // A cookie of libvirt's own and padding follow the XML's NUL.
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn stream_at(&self) -> u64 {
        u64::try_from(HEADER)
            .unwrap_or(u64::MAX)
            .saturating_add(self.text)
    }

    fn packing(&self) -> Option<&'static str> {
        let number = usize::try_from(self.packing).ok()?;
        PACKINGS.get(number).copied()
    }
}

fn recognise(looked: &Looked<'_>) -> Result<Option<Signs>> {
    if !probe(looked.head) {
        return Ok(None);
    }
    let header = Header::read(&**looked.source)?;
    let signs = if header.is_finished {
        Signs::new("LibvirtQemudSave", 0, StateMeaning::Suspended)
    } else {
        Signs::new("LibvirtQemudPart", 0, StateMeaning::Unfinished)
    };
    let signs = signs.saying(match header.was_running {
        true => "the machine ran when it was saved",
        false => "the machine was paused when it was saved",
    });
    let packing = header.packing();
    Ok(Some(match packing {
        Some(packing) => signs.saying(format!(
            "the memory's stream begins at byte {} ({packing})",
            header.stream_at()
        )),
        None => signs.saying(format!(
            "its memory is packed in the unknown way {}",
            header.packing
        )),
    }))
}

fn read(reading: &Reading<'_>, pieces: &mut Pieces<'_, '_>) -> Result<()> {
    let source = reading.source;
    let header = Header::read(&**source)?;
    if !header.is_finished {
        return Err(Error::corrupt(
            "the state was never finished: libvirt marks it as partial",
        ));
    }
    let at = header.stream_at();
    let mut stream = stream(source, at, header.packing())?.ok_or_else(|| {
        Error::unsupported(format!(
            "a state packed in libvirt's way number {}",
            header.packing
        ))
    })?;
    qemu::read_stream(&mut stream, pieces)
}

fn stream(
    source: &Arc<dyn Source>,
    at: u64,
    packing: Option<&'static str>,
) -> Result<Option<Stream>> {
    Ok(match packing {
        Some("raw" | "sparse") => Some(Stream::of(source.clone(), at)),
        Some(packing) => packed::unpack(source, at, packing)?,
        None => None,
    })
}
