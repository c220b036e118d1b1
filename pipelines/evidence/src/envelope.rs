//! DSSE v1 envelopes: a payload, its type, and signatures over both.
//!
//! Source: the DSSE protocol and envelope specifications, version 1.0.2.

use base64ct::{Base64, Encoding};
use dormouse_block::{Digest, Error, Result};
use serde::{Deserialize, Serialize};

use crate::{Mismatch, PublicKey, Statement};

/// The payload type of an in-toto statement.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Longest envelope that is read, in bytes.
const MAX_ENVELOPE: usize = 64 << 20;
/// Most signatures that are tried on one envelope.
const MAX_SIGNATURES: usize = 64;

/// Makes signatures, and names the key it makes them with.
pub trait Signer {
    /// A hint by which a verifier finds the key.
    fn key_id(&self) -> String;

    /// The signature over `message`.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;
}

/// A DSSE envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The payload in standard base64.
    pub payload: String,
    /// Signatures over both.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// A hint by which the key is found; it is not signed and decides nothing.
    #[serde(default)]
    pub keyid: String,
    /// The signature in standard base64.
    pub sig: String,
}

/// An envelope whose signature was checked.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it says.
    pub statement: Statement,
    /// The key that signed it.
    pub key: PublicKey,
}

impl Verified {
    /// Holds every subject against the digest that `digest_of` computes for its name, in the statement's order. A
    /// subject for which `digest_of` has nothing, or an error, is a mismatch as well.
    pub fn check(
        &self,
        mut digest_of: impl FnMut(&str) -> Result<Option<Digest>>,
    ) -> Vec<Mismatch> {
        let mut out = Vec::new();
        for subject in &self.statement.subject {
            match digest_of(&subject.name) {
                Ok(Some(found)) if found.hex() == subject.digest.sha256 => {}
                Ok(Some(found)) => out.push(Mismatch {
                    subject: subject.name.clone(),
                    why: format!(
                        "its digest is {found}, the statement says sha256:{}",
                        subject.digest.sha256
                    ),
                }),
                Ok(None) => out.push(Mismatch {
                    subject: subject.name.clone(),
                    why: "it is not there".into(),
                }),
                Err(error) => out.push(Mismatch {
                    subject: subject.name.clone(),
                    why: error.with_causes(),
                }),
            }
        }
        out
    }
}

/// The pre-authentication encoding of a payload: what is really signed.
fn encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    out.extend_from_slice(payload);
    out
}

impl Envelope {
    /// The statement with the signer's signature.
    ///
    /// # Errors
    /// When the signer fails.
    pub fn seal(statement: &Statement, signer: &dyn Signer) -> Result<Self> {
        let payload = serde_json::to_vec(statement)
            .map_err(|error| Error::corrupt("cannot write the statement").because(error))?;
        let signature = signer.sign(&encoding(PAYLOAD_TYPE, &payload))?;
        Ok(Self {
            payload_type: PAYLOAD_TYPE.into(),
            payload: Base64::encode_string(&payload),
            signatures: vec![Signature {
                keyid: signer.key_id(),
                sig: Base64::encode_string(&signature),
            }],
        })
    }

    /// The envelope as JSON text with a final newline.
    ///
    /// # Errors
    /// Never for an envelope that was sealed.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut out = serde_json::to_vec(self)
            .map_err(|error| Error::corrupt("cannot write the envelope").because(error))?;
        out.push(b'\n');
        Ok(out)
    }
}

/// Opens an envelope: one of its signatures must have been made with one of `keys`.
///
/// # Errors
/// `Corrupt` when it is no envelope of an in-toto statement; `Denied` when no signature is by one of the keys.
pub fn verify(envelope: &[u8], keys: &[PublicKey]) -> Result<Verified> {
    if envelope.len() > MAX_ENVELOPE {
        return Err(Error::limit("an envelope of more than 64 MiB"));
    }
    let envelope: Envelope = serde_json::from_slice(envelope)
        .map_err(|error| Error::corrupt("not a DSSE envelope").because(error))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Error::unsupported(format!(
            "the envelope carries '{}', not an in-toto statement",
            envelope.payload_type
        )));
    }
    let decode = |what: &'static str, text: &str| {
        Base64::decode_vec(text)
            .map_err(|_| Error::corrupt(format!("the envelope's {what} is not base64")))
    };
    let payload = decode("payload", &envelope.payload)?;
    let message = encoding(&envelope.payload_type, &payload);
    for signature in envelope.signatures.iter().take(MAX_SIGNATURES) {
        let bytes = decode("signature", &signature.sig)?;
        let Some(key) = keys.iter().find(|key| key.verifies(&message, &bytes)) else {
            continue;
        };
        let statement = Statement::parse(&payload)?;
        return Ok(Verified {
            statement,
            key: key.clone(),
        });
    }
    let named: Vec<_> = envelope
        .signatures
        .iter()
        .take(MAX_SIGNATURES)
        .map(|signature| signature.keyid.as_str())
        .collect();
    Err(Error::denied(format!(
        "no signature on it was made with a given key (it names {})",
        named.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SigningKey, Subject};

    fn statement() -> Statement {
        Statement::new(
            vec![Subject::new("source:a", Digest::of("a"))],
            "urn:dormouse:predicate:restore-point:v1",
            serde_json::json!({"verdict": "compliant"}),
        )
    }

    #[test]
    fn the_encoding_is_the_specification_s_example() {
        assert_eq!(
            encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn any_change_of_payload_type_or_signature_is_noticed() {
        let key = SigningKey::from_seed([1; 32]);
        let sealed = Envelope::seal(&statement(), &key).unwrap();
        let keys = [key.public()];
        let open = |envelope: &Envelope| verify(&envelope.to_json().unwrap(), &keys);
        assert!(open(&sealed).is_ok());

        let mut other = sealed.clone();
        let mut payload = Base64::decode_vec(&other.payload).unwrap();
        let at = payload
            .windows(9)
            .position(|part| part == b"compliant")
            .unwrap();
        payload[at] = b'C';
        other.payload = Base64::encode_string(&payload);
        assert_eq!(
            open(&other).unwrap_err().kind(),
            dormouse_block::ErrorKind::Denied
        );

        let mut other = sealed.clone();
        other.payload_type = "text/plain".into();
        assert!(open(&other).is_err());

        let mut other = sealed.clone();
        let mut sig = Base64::decode_vec(&other.signatures[0].sig).unwrap();
        sig[0] ^= 1;
        other.signatures[0].sig = Base64::encode_string(&sig);
        assert!(open(&other).is_err());

        let stranger = SigningKey::from_seed([2; 32]);
        assert!(verify(&sealed.to_json().unwrap(), &[stranger.public()]).is_err());
    }

    #[test]
    fn a_subject_that_changed_or_went_is_named() {
        let key = SigningKey::from_seed([1; 32]);
        let sealed = Envelope::seal(&statement(), &key).unwrap();
        let verified = verify(&sealed.to_json().unwrap(), &[key.public()]).unwrap();
        assert!(verified.check(|_| Ok(Some(Digest::of("a")))).is_empty());
        assert_eq!(verified.check(|_| Ok(Some(Digest::of("b")))).len(), 1);
        assert_eq!(verified.check(|_| Ok(None))[0].why, "it is not there");
    }
}
