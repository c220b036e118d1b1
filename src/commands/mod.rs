//! One module a command.

pub(crate) mod baseline;
pub(crate) mod cat;
pub(crate) mod catch_up;
pub(crate) mod check;
pub(crate) mod cp;
pub(crate) mod estate;
pub(crate) mod feed;
pub(crate) mod inspect;
pub(crate) mod inventory;
pub(crate) mod judge;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod patch;
pub(crate) mod plan;
pub(crate) mod query;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod target;
pub(crate) mod verify;
