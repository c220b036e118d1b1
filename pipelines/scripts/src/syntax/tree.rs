//! The shell language as a tree (POSIX.1-2017, Shell & Utilities, chapter 2).

use std::cell::OnceCell;
use std::rc::Rc;

/// Commands separated by `;`, `&` or newlines.
#[derive(Debug, Default)]
pub(crate) struct List(pub(crate) Vec<Item>);

/// Pipelines joined by `&&` and `||`.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) first: Pipeline,
    pub(crate) rest: Vec<(Connector, Pipeline)>,
    /// Ended by `&`.
    pub(crate) background: bool,
}

impl Item {
    /// Whether its last word closes a compound command.
    pub(crate) fn ends_compound(&self) -> bool {
        let last = self.rest.last().map_or(&self.first, |(_, last)| last);
        last.commands.last().is_some_and(|command| {
            command.redirections.is_empty()
                && !matches!(command.kind, Kind::Simple { .. } | Kind::Function { .. })
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connector {
    And,
    Or,
}

#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) negated: bool,
    pub(crate) commands: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    /// From 1.
    pub(crate) line: u32,
    pub(crate) kind: Kind,
    pub(crate) redirections: Vec<Redirection>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Simple {
        assignments: Vec<Assignment>,
        words: Vec<Word>,
    },
    Group(List),
    Subshell(List),
    If {
        /// Conditions and what follows each.
        arms: Vec<(List, List)>,
        otherwise: Option<List>,
    },
    Loop {
        /// `until` rather than `while`.
        until: bool,
        condition: List,
        body: List,
    },
    For {
        name: Vec<u8>,
        /// Without `in`: the positional parameters.
        words: Option<Vec<Word>>,
        body: List,
    },
    Case {
        word: Word,
        arms: Vec<(Vec<Word>, List)>,
    },
    Function {
        name: Vec<u8>,
        body: Rc<Command>,
    },
}

#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Word,
    /// `+=` of bash.
    pub(crate) append: bool,
}

#[derive(Debug)]
pub(crate) struct Redirection {
    pub(crate) fd: u32,
    pub(crate) kind: RedirectionKind,
}

#[derive(Debug)]
pub(crate) enum RedirectionKind {
    Read(Word),
    Write(Word),
    Append(Word),
    ReadWrite(Word),
    Duplicate(Word),
    HereDocument(Rc<OnceCell<Word>>),
}

/// A word before expansion.
#[derive(Debug, Default)]
pub(crate) struct Word(pub(crate) Vec<Part>);

#[derive(Debug)]
pub(crate) enum Part {
    /// Unquoted characters.
    Literal(Vec<u8>),
    /// Characters quoted by `\` or `'`.
    Quoted(Vec<u8>),
    /// What stands between `"`.
    DoubleQuoted(Vec<Part>),
    Parameter(Box<Parameter>),
    Substitution(Rc<List>),
    Arithmetic(Word),
    /// A construct of another shell, named; an error only where it is expanded.
    Foreign(String),
}

#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: Vec<u8>,
    pub(crate) operation: Operation,
}

#[derive(Debug)]
pub(crate) enum Operation {
    /// `$name`, `${name}`
    Value,
    /// `${#name}`
    Length,
    /// `${name-word}`; with `:` also when it is empty.
    Default { word: Word, colon: bool },
    /// `${name=word}`
    Assign { word: Word, colon: bool },
    /// `${name?word}`
    Require { word: Word, colon: bool },
    /// `${name+word}`
    Alternative { word: Word, colon: bool },
    /// `${name#word}`, `${name%word}`, and doubled: the longest.
    Trim {
        word: Word,
        suffix: bool,
        longest: bool,
    },
}

impl Word {
    /// The characters, if none is quoted or expanded.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match self.0.as_slice() {
            [Part::Literal(bytes)] => Some(bytes),
            _ => None,
        }
    }
}
