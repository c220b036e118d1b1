//! Verified package repositories and vendor advisories, in one model.
