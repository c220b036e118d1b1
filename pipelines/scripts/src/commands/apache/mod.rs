//! Debian's helpers for Apache: what is enabled, and enabling and disabling it.

mod query;
mod switch;

pub(crate) use query::a2query;
pub(crate) use switch::{apache2ctl, switch};
