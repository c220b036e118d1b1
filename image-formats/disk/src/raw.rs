//! Raw disks: the bytes of the file are the bytes of the disk.

use dormouse_block::Result;

use crate::plain::Plain;
use crate::{Format, FormatName, Image, OpenFile, Opener, Probe};

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
        let chain = file.chain(FormatName::RAW);
        Ok(Box::new(Plain::new(FormatName::RAW, chain, file.source)))
    }
}
