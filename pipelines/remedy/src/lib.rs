//! Plans, dependency resolution, package injection, first-boot work and catch-up plans.

pub mod deb;
pub mod dpkg;
