//! Names of output files, made of names that images chose.

use std::fmt::Write;

/// `name` as one file name: letters, digits, `.`, `_` and `-` stand for themselves, all else as `%NN`; it never begins
/// with a dot or a hyphen, is never empty, and is cut where hosts cut names, with a digest of the whole in the place of the rest.
#[must_use]
pub(crate) fn file_name(name: &str) -> String {
    /// Room for an ending below the 255 bytes that filesystems allow.
    const MAX: usize = 160;
    let mut out = String::new();
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || byte == b'_'
            || (matches!(byte, b'.' | b'-') && index > 0);
        if plain {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    if out.is_empty() {
        out.push_str("%00");
    }
    if out.len() > MAX {
        let digest = dormouse_block::Digest::of(name).hex();
        out.truncate(MAX.saturating_sub(17));
        out.push('-');
        out.push_str(digest.get(..16).unwrap_or_default());
    }
    out
}

/// A machine's name as a path below a results folder: each part of it one file name.
#[must_use]
pub(crate) fn machine_path(machine: &str) -> String {
    machine
        .split('/')
        .map(file_name)
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_folder() {
        assert_eq!(file_name("../x"), "%2E.%2Fx");
        assert_eq!(file_name("."), "%2E");
        assert_eq!(file_name("-x"), "%2Dx");
        assert_eq!(file_name(""), "%00");
        assert_eq!(file_name("bookworm 2026"), "bookworm%202026");
        assert!(file_name(&"x".repeat(4000)).len() <= 160);
        assert_eq!(machine_path("web/01"), "web/01");
        assert_eq!(machine_path("web/../01"), "web/%2E./01");
    }
}
