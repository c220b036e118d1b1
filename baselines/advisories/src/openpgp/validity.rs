//! When a key may speak: its self-signatures, bindings, expiry and revocations (RFC 9580, 5.2 and 10.1).

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{RevocationCode, Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, Tag};

/// Signatures of one key considered. Certificates flooded with signatures exist; ours are only its own.
const MAX_SIGNATURES: usize = 1000;

/// Seconds since 1970.
pub(super) type Seconds = u32;

/// Why a key or a signature does not count.
pub(super) type Refusal = String;

/// Digests that no longer bind anyone: collisions can be made for MD5 and SHA-1, and RIPEMD-160 is as short.
pub(super) fn is_strong(hash: Option<HashAlgorithm>) -> bool {
    matches!(
        hash,
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha224
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}

/// A signature with a critical subpacket that we do not know must not count (RFC 9580, 5.2.3.7).
pub(super) fn is_understood(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        config.hashed_subpackets().all(|subpacket| {
            !subpacket.is_critical
                || !matches!(
                    subpacket.data,
                    SubpacketData::Other(..)
                        | SubpacketData::Experimental(..)
                        | SubpacketData::Notation(_)
                        | SubpacketData::RegularExpression(_)
                        | SubpacketData::SignatureTarget(..)
                )
        })
    })
}

/// When the signature was made, from its signed part.
pub(super) fn made_at(signature: &Signature) -> Option<Seconds> {
    signature.created().map(pgp::types::Timestamp::as_secs)
}

/// Whether the signature itself is past its own end.
pub(super) fn has_expired(signature: &Signature, now: Seconds) -> bool {
    let life = signature
        .signature_expiration_time()
        .map_or(0, pgp::types::Duration::as_secs);
    let made = made_at(signature).unwrap_or_default();
    life != 0 && now >= made.saturating_add(life)
}

/// Of the signatures that count at `when`, the last made.
fn latest<'a>(
    signatures: impl Iterator<Item = &'a Signature>,
    when: Seconds,
    verifies: impl Fn(&Signature) -> bool,
) -> Option<&'a Signature> {
    let mut all: Vec<_> = signatures
        .take(MAX_SIGNATURES)
        .filter_map(|signature| Some((made_at(signature)?, signature)))
        .filter(|&(made, signature)| {
            made <= when
                && is_strong(signature.hash_alg())
                && is_understood(signature)
                && !has_expired(signature, when)
        })
        .collect();
    all.sort_by_key(|&(made, _)| std::cmp::Reverse(made));
    all.into_iter()
        .map(|(_, signature)| signature)
        .find(|signature| verifies(signature))
}

/// A revocation for a soft reason (superseded, retired, user ID no longer valid) leaves what was signed before it;
/// any other (compromised, no reason) takes everything (RFC 9580, 5.2.3.31).
fn revokes(signature: &Signature, when: Seconds) -> bool {
    let soft = matches!(
        signature.revocation_reason_code(),
        Some(
            RevocationCode::KeySuperseded
                | RevocationCode::KeyRetired
                | RevocationCode::CertUserIdInvalid
        )
    );
    !soft || made_at(signature).is_none_or(|made| made <= when)
}

fn expires_at(key: &impl KeyDetails, signature: &Signature) -> Option<Seconds> {
    let life = signature
        .key_expiration_time()
        .map_or(0, pgp::types::Duration::as_secs);
    (life != 0).then(|| key.created_at().as_secs().saturating_add(life))
}

fn flags_allow_signing(signature: &Signature) -> Option<bool> {
    let stated = signature.config().is_some_and(|config| {
        config
            .hashed_subpackets()
            .any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)))
    });
    stated.then(|| signature.key_flags().sign())
}

/// Whether the primary key is valid at `when`.
pub(super) fn check_primary(key: &SignedPublicKey, when: Seconds) -> Result<(), Refusal> {
    let primary = &key.primary_key;
    if primary.created_at().as_secs() > when {
        return Err("the key was made later".into());
    }
    for signature in key
        .details
        .revocation_signatures
        .iter()
        .take(MAX_SIGNATURES)
    {
        if signature.verify_key(primary).is_ok() && revokes(signature, when) {
            return Err("the key is revoked".into());
        }
    }
    let own = self_signature(key, when).ok_or("the key has no valid self-signature")?;
    match expires_at(primary, own) {
        Some(end) if when >= end => Err("the key has expired".into()),
        _ => Ok(()),
    }
}

/// The self-signature that rules the primary key at `when`: the latest over the key itself or over one of its names
/// that is not revoked.
fn self_signature(key: &SignedPublicKey, when: Seconds) -> Option<&Signature> {
    let primary = &key.primary_key;
    let direct = latest(key.details.direct_signatures.iter(), when, |signature| {
        signature.typ() == Some(SignatureType::Key) && signature.verify_key(primary).is_ok()
    });
    let names = key
        .details
        .users
        .iter()
        .take(MAX_SIGNATURES)
        .filter_map(|user| {
            let verifies = |signature: &Signature| {
                signature
                    .verify_certification(primary, Tag::UserId, &user.id)
                    .is_ok()
            };
            let is_revocation =
                |signature: &&Signature| signature.typ() == Some(SignatureType::CertRevocation);
            let own = latest(
                user.signatures
                    .iter()
                    .filter(|signature| !is_revocation(signature)),
                when,
                verifies,
            )?;
            let revoked = user
                .signatures
                .iter()
                .take(MAX_SIGNATURES)
                .filter(is_revocation)
                .any(|revocation| {
                    made_at(revocation) >= made_at(own)
                        && verifies(revocation)
                        && revokes(revocation, when)
                });
            (!revoked).then_some(own)
        });
    direct
        .into_iter()
        .chain(names)
        .max_by_key(|signature| made_at(signature))
}

/// Whether the primary key itself may sign data at `when`.
pub(super) fn check_primary_signs(key: &SignedPublicKey, when: Seconds) -> Result<(), Refusal> {
    check_primary(key, when)?;
    match self_signature(key, when).and_then(flags_allow_signing) {
        Some(false) => Err("the key is not for signing data".into()),
        _ => Ok(()),
    }
}

/// Whether a subkey may sign data at `when`: bound by a valid primary key, bound back, not expired, not revoked.
pub(super) fn check_subkey_signs(
    key: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    when: Seconds,
) -> Result<(), Refusal> {
    check_primary(key, when)?;
    let primary = &key.primary_key;
    let verifies = |signature: &Signature| {
        signature
            .verify_subkey_binding(primary, &subkey.key)
            .is_ok()
    };
    if subkey.key.created_at().as_secs() > when {
        return Err("the subkey was made later".into());
    }
    let is_revocation =
        |signature: &&Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
    let revoked = subkey
        .signatures
        .iter()
        .take(MAX_SIGNATURES)
        .filter(is_revocation)
        .any(|signature| verifies(signature) && revokes(signature, when));
    if revoked {
        return Err("the subkey is revoked".into());
    }
    let bindings = subkey
        .signatures
        .iter()
        .filter(|signature| !is_revocation(signature));
    let binding = latest(bindings, when, verifies).ok_or("the subkey has no valid binding")?;
    if flags_allow_signing(binding) != Some(true) {
        return Err("the subkey is not for signing data".into());
    }
    // Without this the owner of any primary key could adopt a stranger's signing key.
    let back = binding
        .embedded_signature()
        .ok_or("the subkey is not bound back")?;
    if !is_strong(back.hash_alg())
        || back
            .verify_primary_key_binding(&subkey.key, primary)
            .is_err()
    {
        return Err("the subkey is not bound back".into());
    }
    match expires_at(&subkey.key, binding) {
        Some(end) if when >= end => Err("the subkey has expired".into()),
        _ => Ok(()),
    }
}
