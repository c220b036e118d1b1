//! Proof that stands without Dormouse: statements, envelopes, signatures and reports.
//!
//! A [`Statement`] (in-toto Statement v1) says of its subjects, named by SHA-256 digest, what was judged and done;
//! an [`Envelope`] (DSSE v1) carries it with an Ed25519 signature; [`verify`] opens an envelope with a public key
//! and [`Verified::check`] holds every subject against its bytes. Keys are PKCS#8 and SubjectPublicKeyInfo PEM, so
//! that openssl alone can check what we sign.
//!
//! ```
//! use dormouse_evidence::{Envelope, SigningKey, Statement, Subject, verify};
//! use dormouse_block::Digest;
//!
//! let key = SigningKey::from_seed([7; 32]);
//! let statement = Statement::new(
//!     vec![Subject::new("source:web-01.qcow2", Digest::of("bytes"))],
//!     "urn:dormouse:predicate:restore-point:v1",
//!     serde_json::json!({"verdict": "compliant"}),
//! );
//! let envelope = Envelope::seal(&statement, &key).expect("a statement serializes");
//! let verified = verify(&envelope.to_json().expect("so does an envelope"), &[key.public()]).expect("our own key");
//! assert_eq!(verified.statement.subject, statement.subject);
//! ```

mod bom;
mod envelope;
mod key;
mod report;
mod statement;

pub use bom::{BILL_FORMATS, Bill, BillFormat, bill_format};
pub use envelope::{Envelope, Signature, Signer, Verified, verify};
pub use key::{PublicKey, SigningKey};
pub use report::{
    MachineReport, PointReport, REPORT_FORMATS, ReportFinding, ReportFormat, ReportGap, ReportLeft,
    RunReport, Totals, report_format,
};
pub use statement::{Mismatch, Statement, Subject, SubjectDigest};
