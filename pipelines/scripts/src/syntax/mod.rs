//! Reading a shell script into a tree.

mod parser;
mod redirection;
mod tree;
mod word;

pub(crate) use parser::{Dialect, is_name, is_name_byte, parse};
pub(crate) use tree::{
    Assignment, Command, Connector, Item, Kind, List, Operation, Parameter, Part, Pipeline,
    Redirection, RedirectionKind, Word,
};
