//! Raw disks: the bytes of the file are the bytes of the disk.

use std::sync::Arc;

use dormouse_block::{Result, Source};

use crate::image::no_point;
use crate::{ACTIVE, Chain, Format, FormatName, Image, OpenFile, Opener, PointInfo, Probe, State};

/// The format.
pub(crate) struct Raw;

impl Format for Raw {
    fn name(&self) -> FormatName {
        FormatName::RAW
    }

    /// Names of QEMU's protocols for plain files, found where a format is expected.
    fn aliases(&self) -> &'static [&'static str] {
        &["file", "host_device"]
    }

    fn probe(&self, _: &Probe<'_>) -> bool {
        true
    }

    fn open(&self, file: OpenFile, _: &mut Opener<'_>) -> Result<Box<dyn Image>> {
        Ok(Box::new(RawImage {
            chain: file.chain(FormatName::RAW),
            points: [PointInfo::active(file.source.len())],
            source: file.source,
        }))
    }
}

struct RawImage {
    chain: Chain,
    source: Arc<dyn Source>,
    points: [PointInfo; 1],
}

impl Image for RawImage {
    fn format(&self) -> FormatName {
        FormatName::RAW
    }

    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn virtual_size(&self) -> u64 {
        self.source.len()
    }

    fn state(&self) -> State {
        State::default()
    }

    fn points(&self) -> &[PointInfo] {
        &self.points
    }

    fn open_point(&self, id: &str) -> Result<Arc<dyn Source>> {
        if id == ACTIVE {
            return Ok(self.source.clone());
        }
        Err(no_point(id, &self.points))
    }

    fn memory(&self, id: &str) -> Result<Option<Arc<dyn Source>>> {
        self.open_point(id).map(|_| None)
    }
}
