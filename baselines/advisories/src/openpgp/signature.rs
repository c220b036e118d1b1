//! Who signed some bytes.

use std::io::{BufRead, Read};

use dormouse_block::{Error, Result};
use jiff::Timestamp;
use memchr::{memchr, memmem};
use pgp::armor::DearmorOptions;
use pgp::composed::{
    CleartextSignedMessage, Deserializable as _, DetachedSignature, SignedPublicKey,
};
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::Keyring;
use super::validity::{
    Refusal, Seconds, check_primary_signs, check_subkey_signs, has_expired, is_strong,
    is_understood, made_at,
};

/// Signatures of one file. Debian's carry three.
const MAX_SIGNATURES: usize = 64;

/// One good signature by a trusted key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Signer {
    /// Fingerprint of the certificate's primary key, as upper-case hexadecimal digits.
    pub primary: String,
    /// Fingerprint of the key that signed: the primary one or a subkey.
    pub key: String,
    /// When it signed.
    pub signed_at: Timestamp,
}

/// The text of a clear-signed message (`InRelease`), exactly the bytes that were signed, and who signed it.
///
/// # Errors
/// `Corrupt` when it is no such message, `Denied` when no signature counts; the message says why of each.
pub(crate) fn cleartext(
    bytes: &[u8],
    keyring: &Keyring,
    as_of: Timestamp,
) -> Result<(String, Vec<Signer>)> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::corrupt("a clear-signed text that is not UTF-8").because(error))?;
    let (message, _) =
        CleartextSignedMessage::from_armor_buf(Body(text.as_bytes()), DearmorOptions::default())
            .map_err(|error| Error::corrupt("no clear-signed text").because(error))?;
    let signed = message.signed_text();
    let signers = judge(
        message.signatures().iter(),
        signed.as_bytes(),
        keyring,
        as_of,
    )?;
    Ok((signed, signers))
}

/// Bytes that hand over all lines up to the next that begins with five dashes as one. The parser of clear-signed texts looks
/// for such a line in all that it has read after each line, so that 80 KB of them would take it 80 milliseconds.
struct Body<'a>(&'a [u8]);

impl Read for Body<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl BufRead for Body<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        Ok(self.0)
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }

    fn read_line(&mut self, line: &mut String) -> std::io::Result<usize> {
        const DASHES: &[u8] = b"-----";
        let start = if self.0.starts_with(DASHES) {
            Some(0)
        } else {
            memmem::find(self.0, b"\n-----").map(|at| at.saturating_add(1))
        };
        let rest = start.and_then(|start| self.0.get(start..));
        let end = rest.and_then(|rest| memchr(b'\n', rest));
        let len = match (start, end) {
            (Some(start), Some(end)) => start.saturating_add(end).saturating_add(1),
            _ => self.0.len(),
        };
        let (taken, rest) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        line.push_str(std::str::from_utf8(taken).map_err(std::io::Error::other)?);
        self.0 = rest;
        Ok(taken.len())
    }
}

/// Who made the detached signatures (`Release.gpg`, armored or binary) of `data`.
///
/// # Errors
/// As [`cleartext`].
pub(crate) fn detached(
    data: &[u8],
    signatures: &[u8],
    keyring: &Keyring,
    as_of: Timestamp,
) -> Result<Vec<Signer>> {
    let bad = |error: pgp::errors::Error| Error::corrupt("no detached signature").because(error);
    let parsed = if signatures.first().is_some_and(|&first| first & 0x80 != 0) {
        DetachedSignature::from_bytes_many(signatures).map_err(bad)?
    } else {
        DetachedSignature::from_armor_many(signatures)
            .map_err(bad)?
            .0
    };
    let parsed = parsed
        .take(MAX_SIGNATURES)
        .collect::<Result<Vec<_>, _>>()
        .map_err(bad)?;
    judge(
        parsed.iter().map(|detached| &detached.signature),
        data,
        keyring,
        as_of,
    )
}

fn judge<'a>(
    signatures: impl Iterator<Item = &'a Signature>,
    data: &[u8],
    keyring: &Keyring,
    as_of: Timestamp,
) -> Result<Vec<Signer>> {
    let mut good = Vec::new();
    let mut refusals = Vec::new();
    for signature in signatures.take(MAX_SIGNATURES) {
        match signer_of(signature, data, keyring, as_of) {
            Ok(signer) => good.push(signer),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if good.is_empty() {
        if refusals.is_empty() {
            refusals.push("there is none".into());
        }
        refusals.sort();
        refusals.dedup();
        let why = format!(
            "no good signature by a trusted key: {}",
            refusals.join("; ")
        );
        return Err(Error::denied(why));
    }
    good.sort();
    good.dedup();
    Ok(good)
}

fn signer_of(
    signature: &Signature,
    data: &[u8],
    keyring: &Keyring,
    as_of: Timestamp,
) -> Result<Signer, Refusal> {
    if !matches!(
        signature.typ(),
        Some(SignatureType::Binary | SignatureType::Text)
    ) {
        return Err("a signature of another kind than over data".into());
    }
    if !is_strong(signature.hash_alg()) {
        let hash = signature
            .hash_alg()
            .map_or_else(|| "unknown".into(), |hash| hash.to_string());
        return Err(format!(
            "a signature over a {hash} digest, which is too weak"
        ));
    }
    if !is_understood(signature) {
        return Err("a signature with a critical part that is not known".into());
    }
    let made = made_at(signature).ok_or("a signature without a time")?;
    // Instants before 1970 or after 2106 are beyond what OpenPGP can say.
    let now =
        Seconds::try_from(as_of.as_second().clamp(0, i64::from(u32::MAX))).unwrap_or(Seconds::MAX);
    if has_expired(signature, now) {
        return Err("a signature that has expired".into());
    }
    let mut refusal = format!(
        "a signature by {}, which is not in the keyring",
        issuer(signature)
    );
    for certificate in keyring.certificates() {
        match by_certificate(signature, data, certificate, made, now) {
            None => {}
            Some(Ok(key)) => {
                let signed_at = Timestamp::from_second(i64::from(made))
                    .map_err(|_| "a signature of an impossible time")?;
                return Ok(Signer {
                    primary: format!("{:X}", certificate.primary_key.fingerprint()),
                    key,
                    signed_at,
                });
            }
            Some(Err(why)) => refusal = format!("a signature by {}: {why}", issuer(signature)),
        }
    }
    Err(refusal)
}

fn issuer(signature: &Signature) -> String {
    signature
        .issuer_fingerprint()
        .first()
        .map(|fingerprint| format!("{fingerprint:X}"))
        .or_else(|| {
            signature
                .issuer_key_id()
                .first()
                .map(|id| format!("{id}").to_uppercase())
        })
        .unwrap_or_else(|| "an unnamed key".into())
}

fn is_issuer(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().contains(&&key.legacy_key_id());
    }
    fingerprints.contains(&&key.fingerprint())
}

/// `None` when no key of the certificate is the issuer; else the key's fingerprint or why it does not count.
fn by_certificate(
    signature: &Signature,
    data: &[u8],
    certificate: &SignedPublicKey,
    made: Seconds,
    now: Seconds,
) -> Option<Result<String, Refusal>> {
    // Valid when it signed, and still so at the instant judged. Judging an instant before the signature asks only the
    // first: the snapshot is then newer than the instant, which is noted elsewhere.
    let instants = [made, now.max(made)];
    let primary = &certificate.primary_key;
    if is_issuer(signature, primary) {
        return Some(by_key(signature, data, primary, || {
            instants
                .iter()
                .try_for_each(|&when| check_primary_signs(certificate, when))
        }));
    }
    let subkey = certificate
        .public_subkeys
        .iter()
        .find(|subkey| is_issuer(signature, &subkey.key))?;
    Some(by_key(signature, data, &subkey.key, || {
        instants
            .iter()
            .try_for_each(|&when| check_subkey_signs(certificate, subkey, when))
    }))
}

fn by_key(
    signature: &Signature,
    data: &[u8],
    key: &impl VerifyingKey,
    is_valid: impl FnOnce() -> Result<(), Refusal>,
) -> Result<String, Refusal> {
    signature
        .verify(key, data)
        .map_err(|_| Refusal::from("it does not belong to these bytes"))?;
    is_valid()?;
    Ok(format!("{:X}", key.fingerprint()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----

iHUEARYIAB0WIQR5M/dv5mrdgTIxUM312OnG8WUXyQUCaw3k2wAKCRD12OnG8WUX
yfIRAP43arKRANejzpYLG5uS0u+NLSIwTE6OZ9XV+2OB/arg/AEA39FEBGbA+Hee
gXZcIz8IlJkwKRZoOvHq3MDhxPpjvgw=
=Fh6B
-----END PGP SIGNATURE-----
";

    /// What the library makes of a text through its own reader and through ours: the text, or that it is none.
    fn both(text: &str) -> [Result<String, String>; 2] {
        let parsed = [
            CleartextSignedMessage::from_string(text),
            CleartextSignedMessage::from_armor_buf(
                Body(text.as_bytes()),
                DearmorOptions::default(),
            ),
        ];
        parsed.map(|one| match one {
            Ok((message, _)) => Ok(message.text().to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    #[test]
    fn a_body_is_what_it_is_line_by_line() {
        let head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n";
        let mut whole = 0;
        for body in [
            "",
            "\n",
            "a\n",
            "a\r\nb\r\n",
            "a\n\n\nb",
            "- -----BEGIN nothing\nb\n",
            "----- not escaped\nb\n",
            "a\n----\n-----\nb\n",
            "a -----\n -----\n",
            "\u{e4}\u{1f401}\n",
        ] {
            for end in ["", SIGNATURE, "-----BEGIN PGP", "\n"] {
                let text = format!("{head}{body}{end}");
                let [theirs, ours] = both(&text);
                assert_eq!(theirs, ours, "{text:?}");
                whole += usize::from(theirs.is_ok());
            }
        }
        assert!(whole > 3, "{whole} of them are whole");
        // Cut anywhere, too.
        let real = format!("{head}Origin: Example\n- - dashed\nSuite: test\n{SIGNATURE}");
        for end in 0..=real.len() {
            let [theirs, ours] = both(&real[..end]);
            assert_eq!(theirs, ours, "{end}");
        }
    }
}
