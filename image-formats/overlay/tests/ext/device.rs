//! A host file as a device, for editors under test.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use dormouse_block::{Error, Result, Source};
use dormouse_overlay::Device;

pub struct FileDevice {
    file: File,
    len: u64,
}

impl FileDevice {
    pub fn open(path: &Path) -> Arc<dyn Device> {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        Arc::new(Self { file, len })
    }
}

impl Source for FileDevice {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| Error::io("reading", error))
    }
}

impl Device for FileDevice {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        assert!(
            offset + bytes.len() as u64 <= self.len,
            "a write beyond the device"
        );
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| Error::io("writing", error))
    }
}
