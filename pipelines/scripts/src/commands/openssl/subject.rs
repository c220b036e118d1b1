//! The hash of a certificate's subject, as OpenSSL's `X509_NAME_hash` has it: SHA-1 of the name in its canonical form
//! (X.690 for the encoding, RFC 5280 4.1 for the certificate).

use sha1::{Digest as _, Sha1};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const UTF8: u8 = 0x0c;
const VERSION: u8 = 0xa0;

/// A tag, its value, and its whole encoding.
struct Item<'a> {
    tag: u8,
    value: &'a [u8],
}

/// The next item, and what comes after it.
fn item(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().try_fold(0_usize, |sum, digit| {
                sum.checked_mul(256)?.checked_add(usize::from(*digit))
            })?;
            (length, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((Item { tag, value }, rest))
}

fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = item(bytes)?;
    (found.tag == tag).then_some((found.value, rest))
}

fn encode(out: &mut Vec<u8>, tag: u8, value: &[u8]) -> Option<()> {
    out.push(tag);
    match value.len() {
        length @ 0..=0x7f => out.push(u8::try_from(length).ok()?),
        length @ 0x80..=0xff => out.extend([0x81, u8::try_from(length).ok()?]),
        length => {
            out.push(0x82);
            out.extend(u16::try_from(length).ok()?.to_be_bytes());
        }
    }
    out.extend_from_slice(value);
    Some(())
}

/// The hash of the subject of a certificate in DER; `None` for what is no certificate.
pub(super) fn hash(certificate: &[u8]) -> Option<u32> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (body, _) = expect(certificate, SEQUENCE)?;
    let mut rest = body;
    if let Some((_, after)) = expect(rest, VERSION) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        (_, rest) = item(rest)?;
    }
    let (subject, _) = expect(rest, SEQUENCE)?;
    let digest = Sha1::digest(canonical(subject)?);
    let first: [u8; 4] = digest.get(..4)?.try_into().ok()?;
    Some(u32::from_le_bytes(first))
}

/// The relative names one after the other, each attribute's text in its canonical form.
fn canonical(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while !name.is_empty() {
        let (mut set, rest) = expect(name, SET)?;
        name = rest;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (attribute, rest) = expect(set, SEQUENCE)?;
            set = rest;
            let (object, rest) = expect(attribute, OBJECT)?;
            let (value, _) = item(rest)?;
            let mut inner = Vec::new();
            encode(&mut inner, OBJECT, object)?;
            match text(&value)? {
                Some(text) => encode(&mut inner, UTF8, &text)?,
                None => encode(&mut inner, value.tag, value.value)?,
            }
            let mut whole = Vec::new();
            encode(&mut whole, SEQUENCE, &inner)?;
            attributes.push(whole);
        }
        // DER: the elements of a set in the order of their encodings.
        attributes.sort();
        encode(&mut out, SET, &attributes.concat())?;
    }
    Some(out)
}

/// A text in UTF-8, in small letters of ASCII, with single blanks between its words; `None` within for what is no text.
#[expect(clippy::option_option, reason = "no text, and a broken one")]
fn text(value: &Item<'_>) -> Option<Option<Vec<u8>>> {
    let utf8: Vec<u8> = match value.tag {
        // UTF8String, PrintableString, IA5String, VisibleString.
        0x0c | 0x13 | 0x16 | 0x1a => value.value.to_vec(),
        // T61String, read as Latin-1.
        0x14 => value
            .value
            .iter()
            .map(|&byte| char::from(byte))
            .collect::<String>()
            .into_bytes(),
        // UniversalString.
        0x1c => {
            let (signs, rest) = value.value.as_chunks::<4>();
            if !rest.is_empty() {
                return None;
            }
            signs
                .iter()
                .map(|sign| char::from_u32(u32::from_be_bytes(*sign)))
                .collect::<Option<String>>()?
                .into_bytes()
        }
        // BMPString.
        0x1e => {
            let (signs, rest) = value.value.as_chunks::<2>();
            if !rest.is_empty() {
                return None;
            }
            signs
                .iter()
                .map(|sign| char::from_u32(u32::from(u16::from_be_bytes(*sign))))
                .collect::<Option<String>>()?
                .into_bytes()
        }
        _ => return Some(None),
    };
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let words: Vec<Vec<u8>> = utf8
        .split(blank)
        .filter(|word| !word.is_empty())
        .map(<[u8]>::to_ascii_lowercase)
        .collect();
    Some(Some(words.join(&b' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_certificates_have_no_hash() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x02\x30\x00",
            b"\x30\x80\x00\x00",
        ] {
            assert_eq!(hash(bytes), None);
        }
    }

    #[test]
    fn texts_lose_their_capitals_and_blanks() {
        let of = |tag, value: &[u8]| text(&Item { tag, value }).unwrap();
        assert_eq!(of(0x13, b"  Some  CA \t1 ").unwrap(), b"some ca 1");
        assert_eq!(of(0x14, b"\xc4B").unwrap(), "\u{c4}b".as_bytes());
        assert_eq!(of(0x1e, b"\x00A\x00b").unwrap(), b"ab");
        assert_eq!(of(0x03, b"x"), None);
        assert!(
            text(&Item {
                tag: 0x1e,
                value: b"x"
            })
            .is_none()
        );
    }
}
