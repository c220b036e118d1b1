//! Statements, envelopes, signatures and reports: proof that stands without Dormouse.
