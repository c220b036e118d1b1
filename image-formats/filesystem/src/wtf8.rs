//! Names in UTF-16 that may hold half pairs of surrogates, as bytes and back.

/// UTF-8; half a pair of surrogates is written as if it were a character (WTF-8), so that no two names become equal.
pub(crate) fn shown(units: &[u16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(units.len());
    for character in char::decode_utf16(units.iter().copied()) {
        match character {
            Ok(character) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Err(half) => {
                let [high, low] = half.unpaired_surrogate().to_be_bytes();
                out.push(0xE0 | high >> 4);
                out.push(0x80 | (high & 0xF) << 2 | low >> 6);
                out.push(0x80 | low & 0x3F);
            }
        }
    }
    out
}

/// The units of a name as users write it; `None` for one of more than `most` or what is no text.
pub(crate) fn written(name: &[u8], most: usize) -> Option<Vec<u16>> {
    let mut out = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (good, after) = match std::str::from_utf8(rest) {
            Ok(all) => (all, &[][..]),
            Err(error) => {
                let (good, bad) = rest.split_at_checked(error.valid_up_to())?;
                (std::str::from_utf8(good).ok()?, bad)
            }
        };
        out.extend(good.encode_utf16());
        rest = after;
        if let [0xED, second, third, after @ ..] = rest {
            if !(0xA0..=0xBF).contains(second) || !(0x80..=0xBF).contains(third) {
                return None;
            }
            out.push(0xD000 | u16::from(second & 0x3F) << 6 | u16::from(third & 0x3F));
            rest = after;
        } else if !rest.is_empty() {
            return None;
        }
    }
    (out.len() <= most).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_there_and_back() {
        for units in [
            &[0x41_u16, 0xE9, 0x65E5][..],
            &[0xD83D, 0xDE00],
            &[0xD83D],
            &[0xDE00, 0x41, 0xD83D],
        ] {
            assert_eq!(written(&shown(units), 255).unwrap(), units);
        }
        assert_eq!(written(b"\xff", 9), None);
        assert_eq!(written(b"a\xed\x41", 9), None);
    }
}
