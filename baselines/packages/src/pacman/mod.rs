//! pacman's package database and its version order.

mod config;
mod database;
mod version;

pub use database::Record;
pub use version::compare;

pub(crate) use config::{Config, PATH as CONFIG, matches};
pub(crate) use database::Pacman;
