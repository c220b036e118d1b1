//! Images made by hand from what QEMU wrote: their folder, and their fields.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses its part of this module"
)]
#![allow(clippy::disallowed_methods, reason = "tests write files")]

use std::path::{Path, PathBuf};

use dormouse_block::ErrorKind;
use dormouse_disk::ACTIVE;

use crate::oracle::{assert_same, image, open, run, scatter};

pub const MIB: usize = 1 << 20;
pub const SIZE: u64 = 7 << 20;
pub const LEN: usize = 7 << 20;

pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn name(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// A disk with data in many places, and its bytes.
    pub fn disk(&self, name: &str, format: &str, options: &str, seed: u64) -> Vec<u8> {
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                format,
                "-o",
                options,
                &self.name(name),
                &SIZE.to_string(),
            ],
        );
        scatter(&self.at(name), SIZE, 9, seed);
        self.raw_of(name, format)
    }

    pub fn raw_of(&self, name: &str, format: &str) -> Vec<u8> {
        let raw = self.name("qemu.raw");
        run(
            "qemu-img",
            &["convert", "-f", format, "-O", "raw", &self.name(name), &raw],
        );
        std::fs::read(raw).unwrap()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.at(name)).unwrap()
    }

    pub fn assert_reads(&self, name: &str, expected: &[u8]) {
        let model = self.at("model.raw");
        std::fs::write(&model, expected).unwrap();
        let opened = image(&self.at(name));
        assert_same(&*opened.open_point(ACTIVE).unwrap(), &model, name);
    }
}

pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub fn be32(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
}

pub fn le32(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
}

pub fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub fn utf16le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub fn refused(path: &Path, word: &str) {
    let error = open(path, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(word), "{error} lacks {word:?}");
}
