//! Names of parents as hypervisors write them: paths of the machine that made the layer, often with a drive's letter and
//! backslashes. What is left of them in a library is most often the last part, beside the layer.

/// The names to try for the parent that a layer calls `written`, the most faithful first. Whatever is found must prove
/// itself by its identifier.
pub(crate) fn candidates(written: &[u8]) -> Vec<Vec<u8>> {
    let windows = written.contains(&b'\\') || drive(written).is_some();
    let path: Vec<u8> = if windows {
        drive(written)
            .unwrap_or(written)
            .iter()
            .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
            .collect()
    } else {
        written.to_vec()
    };
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut names = Vec::new();
    // An absolute path of Windows leads nowhere here.
    let leads_nowhere = windows && path.starts_with(b"/");
    if !leads_nowhere && !path.is_empty() {
        names.push(path.clone());
    }
    if !last.is_empty() && last != path {
        names.push(last.to_vec());
    }
    names
}

/// What follows `C:` or `\\?\C:`.
fn drive(path: &[u8]) -> Option<&[u8]> {
    let path = path.strip_prefix(br"\\?\").unwrap_or(path);
    match path {
        [letter, b':', rest @ ..]
            if letter.is_ascii_alphabetic()
                && matches!(rest.first(), None | Some(b'\\' | b'/')) =>
        {
            Some(rest)
        }
        _ => None,
    }
}

/// UTF-16 as UTF-8, up to the first NUL; broken pairs are replaced.
pub(crate) fn utf16(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_found_in_a_library_is_tried() {
        let of = |written: &str| -> Vec<String> {
            candidates(written.as_bytes())
                .into_iter()
                .map(|name| String::from_utf8(name).unwrap())
                .collect()
        };
        assert_eq!(of("base.vmdk"), ["base.vmdk"]);
        assert_eq!(
            of("/vmfs/volumes/1/vm/base.vmdk"),
            ["/vmfs/volumes/1/vm/base.vmdk", "base.vmdk"]
        );
        assert_eq!(of(r"C:\vm\base.vhd"), ["base.vhd"]);
        assert_eq!(of(r"\\?\C:\vm\base.vhd"), ["base.vhd"]);
        assert_eq!(of(r".\base.vhdx"), ["./base.vhdx", "base.vhdx"]);
        assert_eq!(of(r"..\up\base.vhdx"), ["../up/base.vhdx", "base.vhdx"]);
        assert_eq!(of(r"\\server\share\base.vhdx"), ["base.vhdx"]);
        assert!(of("").is_empty());
    }
}
