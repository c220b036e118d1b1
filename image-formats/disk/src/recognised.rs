//! Formats known by their magic and not read: named in the refusal, never taken for a raw disk.

use crate::Probe;

/// A format that is recognised only.
pub(crate) struct Recognised {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) probe: fn(&Probe<'_>) -> bool,
}

macro_rules! recognised {
    ($($name:literal $(| $alias:literal)* => $probe:expr;)*) => {
        &[$(Recognised { name: $name, aliases: &[$($alias),*], probe: $probe }),*]
    };
}

/// Magic numbers as QEMU's block drivers, the vendors' specifications and file(1) give them.
pub(crate) static RECOGNISED: &[Recognised] = recognised! {
    // A version that nobody has published.
    "qcow of an unknown version" => |p| p.starts_with_at(0, b"QFI\xfb");
    "bochs" => |p| p.starts_with_at(0, b"Bochs Virtual HD Image");
    "cloop" => |p| p.starts_with_at(0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop");
    "dmg" => |p| p.tail.starts_with(b"koly") && matches!(p.extension, "dmg" | "");
    "ewf" => |p| p.starts_with_at(0, b"EVF\x09\x0d\x0a\xff\0") || p.starts_with_at(0, b"EVF2\r\n\x81\0");
    "wim" => |p| p.starts_with_at(0, b"MSWIM\0\0\0");
    "vma" => |p| p.starts_with_at(0, b"VMA\0");
    "asif" => |p| p.starts_with_at(0, b"shdw");
    "ova" => |p| p.starts_with_at(257, b"ustar") && matches!(p.extension, "ova" | "tar" | "box");
    "libvirt saved machine" => |p| p.starts_with_at(0, b"LibvirtQemud");
    "qemu migration stream" => |p| p.starts_with_at(0, b"QEVM\0\0\0\x03");
    // Wrapped images: unpack them first.
    "gzip" => |p| p.starts_with_at(0, b"\x1f\x8b\x08");
    "xz" => |p| p.starts_with_at(0, b"\xfd7zXZ\0");
    "zstd" => |p| p.starts_with_at(0, b"\x28\xb5\x2f\xfd");
    "bzip2" => |p| p.starts_with_at(0, b"BZh") && p.starts_with_at(4, b"1AY&SY");
    "zip" => |p| p.starts_with_at(0, b"PK\x03\x04");
    "7z" => |p| p.starts_with_at(0, b"7z\xbc\xaf\x27\x1c");
};
