//! An awk program as a tree.

use crate::regex::Regex;

#[derive(Debug)]
pub(super) enum Pattern {
    Begin,
    End,
    Always,
    When(Expression),
    Range(Expression, Expression),
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) pattern: Pattern,
    pub(super) action: Vec<Statement>,
}

#[derive(Debug)]
pub(super) enum Statement {
    Expression(Expression),
    /// To standard output, or to standard error.
    Print(Vec<Expression>, bool),
    PrintFormat(Vec<Expression>, bool),
    If(Expression, Vec<Statement>, Vec<Statement>),
    While(Expression, Vec<Statement>),
    DoWhile(Vec<Statement>, Expression),
    For(
        Option<Box<Statement>>,
        Option<Expression>,
        Option<Box<Statement>>,
        Vec<Statement>,
    ),
    ForIn(Vec<u8>, Vec<u8>, Vec<Statement>),
    Next,
    Exit(Option<Expression>),
    Break,
    Continue,
    Delete(Vec<u8>, Option<Vec<Expression>>),
    Block(Vec<Statement>),
}

#[derive(Debug)]
pub(super) enum Expression {
    Number(f64),
    String(Vec<u8>),
    Regex(Box<Regex>),
    Variable(Vec<u8>),
    Field(Box<Expression>),
    Element(Vec<u8>, Vec<Expression>),
    Assign(Box<Expression>, &'static str, Box<Expression>),
    /// Changes by one; whether the new value counts.
    Step(Box<Expression>, f64, bool),
    Unary(&'static str, Box<Expression>),
    Binary(&'static str, Box<Expression>, Box<Expression>),
    Choose(Box<Expression>, Box<Expression>, Box<Expression>),
    Match(Box<Expression>, Box<Expression>, bool),
    In(Vec<Expression>, Vec<u8>),
    Call(Vec<u8>, Vec<Expression>),
}
