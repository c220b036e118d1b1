//! Windows: its registry, and what is installed by what the registry says.

pub mod regf;
