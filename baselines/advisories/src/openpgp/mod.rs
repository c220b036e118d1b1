//! OpenPGP, behind one seam: a keyring, and the question who signed some bytes.
//!
//! The `pgp` crate does the packets and the arithmetic. Which keys and signatures count is decided here, after
//! RFC 9580 and in the manner of apt: the key must have been valid when it signed, and still be at the instant judged.

mod keyring;
mod signature;
mod validity;

pub use keyring::Keyring;
pub use signature::Signer;

pub(crate) use signature::{cleartext, detached};
