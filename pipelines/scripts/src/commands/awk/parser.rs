//! The grammar of awk.

use super::lexer::{Token, tokens};
use super::program::{Expression, Pattern, Rule, Statement};
use crate::regex::{Regex, Syntax};

/// Deepest nesting.
const MAX_DEPTH: u32 = 60;

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
    /// `>` is a redirection here.
    in_print: bool,
    /// `in` belongs to a `for` here.
    in_for: bool,
}

type Parsed<T> = Result<T, String>;

pub(super) fn parse(text: &[u8]) -> Parsed<Vec<Rule>> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        in_print: false,
        in_for: false,
    };
    let mut rules = Vec::new();
    loop {
        parser.terminators();
        if parser.peek() == &Token::End {
            return Ok(rules);
        }
        rules.push(parser.rule()?);
    }
}

/// Compiles a dynamic or literal expression: extended, with awk's escapes.
pub(super) fn regex(pattern: &[u8]) -> Parsed<Regex> {
    Regex::new(pattern, Syntax::Extended, false, true)
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        self.tokens
            .get(self.at.saturating_add(ahead))
            .unwrap_or(&Token::End)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = self.at.saturating_add(1);
        token
    }

    fn take(&mut self, operator: &str) -> bool {
        let found = matches!(self.peek(), Token::Operator(known) if *known == operator);
        if found {
            self.at = self.at.saturating_add(1);
        }
        found
    }

    fn require(&mut self, operator: &str) -> Parsed<()> {
        if self.take(operator) {
            Ok(())
        } else {
            Err(format!("\"{operator}\" is missing"))
        }
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(known) | Token::Function(known) if known == name.as_bytes())
    }

    fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.at = self.at.saturating_add(1);
        }
        found
    }

    fn terminators(&mut self) {
        while self.take(";") {}
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err("the program nests too deep".into());
        }
        let result = inner(self);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    fn rule(&mut self) -> Parsed<Rule> {
        if self.is_name("function") || self.is_name("func") {
            return Err("functions are not interpreted".into());
        }
        let pattern = if self.take_name("BEGIN") {
            Pattern::Begin
        } else if self.take_name("END") {
            Pattern::End
        } else if matches!(self.peek(), Token::Operator("{")) {
            Pattern::Always
        } else {
            let first = self.expression()?;
            if self.take(",") {
                self.terminators();
                Pattern::Range(first, self.expression()?)
            } else {
                Pattern::When(first)
            }
        };
        let action = if matches!(self.peek(), Token::Operator("{")) {
            self.block()?
        } else {
            vec![Statement::Print(Vec::new(), false)]
        };
        Ok(Rule { pattern, action })
    }

    fn block(&mut self) -> Parsed<Vec<Statement>> {
        self.nested(|parser| {
            parser.require("{")?;
            let mut out = Vec::new();
            loop {
                parser.terminators();
                if parser.take("}") {
                    return Ok(out);
                }
                if parser.peek() == &Token::End {
                    return Err("\"}\" is missing".into());
                }
                out.push(parser.statement()?);
            }
        })
    }

    /// One statement or block as the body of another.
    fn body(&mut self) -> Parsed<Vec<Statement>> {
        while matches!(self.peek(), Token::Operator(";"))
            && !matches!(self.peek_at(1), Token::Operator("}"))
        {
            self.at = self.at.saturating_add(1);
        }
        if self.take(";") {
            return Ok(Vec::new());
        }
        Ok(vec![self.nested(Self::statement)?])
    }

    fn statement(&mut self) -> Parsed<Statement> {
        if matches!(self.peek(), Token::Operator("{")) {
            return self.block().map(Statement::Block);
        }
        if self.take_name("if") {
            self.require("(")?;
            let condition = self.expression()?;
            self.require(")")?;
            let yes = self.body()?;
            let before = self.at;
            self.terminators();
            if self.take_name("else") {
                return Ok(Statement::If(condition, yes, self.body()?));
            }
            self.at = before;
            return Ok(Statement::If(condition, yes, Vec::new()));
        }
        if self.take_name("while") {
            self.require("(")?;
            let condition = self.expression()?;
            self.require(")")?;
            return Ok(Statement::While(condition, self.body()?));
        }
        if self.take_name("do") {
            let body = self.body()?;
            self.terminators();
            if !self.take_name("while") {
                return Err("\"while\" is missing".into());
            }
            self.require("(")?;
            let condition = self.expression()?;
            self.require(")")?;
            return Ok(Statement::DoWhile(body, condition));
        }
        if self.take_name("for") {
            return self.for_loop();
        }
        let statement = self.simple()?;
        match self.peek() {
            Token::Operator(";" | "}") | Token::End => Ok(statement),
            _ => Err("the statement is not interpreted".into()),
        }
    }

    fn for_loop(&mut self) -> Parsed<Statement> {
        self.require("(")?;
        if let (Token::Name(variable), Token::Name(word), Token::Name(array)) = (
            self.peek().clone(),
            self.peek_at(1).clone(),
            self.peek_at(2).clone(),
        ) && word == b"in"
            && matches!(self.peek_at(3), Token::Operator(")"))
        {
            self.at = self.at.saturating_add(4);
            return Ok(Statement::ForIn(variable, array, self.body()?));
        }
        let first = if self.take(";") {
            None
        } else {
            let first = self.simple()?;
            self.require(";")?;
            Some(Box::new(first))
        };
        let condition = if self.take(";") {
            None
        } else {
            let condition = self.expression()?;
            self.require(";")?;
            Some(condition)
        };
        let step = if self.take(")") {
            None
        } else {
            let step = self.simple()?;
            self.require(")")?;
            Some(Box::new(step))
        };
        Ok(Statement::For(first, condition, step, self.body()?))
    }

    fn simple(&mut self) -> Parsed<Statement> {
        if self.take_name("next") {
            return Ok(Statement::Next);
        }
        if self.take_name("break") {
            return Ok(Statement::Break);
        }
        if self.take_name("continue") {
            return Ok(Statement::Continue);
        }
        if self.take_name("exit") {
            let ends = matches!(self.peek(), Token::Operator(";" | "}") | Token::End);
            return Ok(Statement::Exit(if ends {
                None
            } else {
                Some(self.expression()?)
            }));
        }
        if self.take_name("delete") {
            let (Token::Name(name) | Token::Function(name)) = self.advance() else {
                return Err("\"delete\" without an array".into());
            };
            let index = if self.take("[") {
                Some(self.list("]")?)
            } else {
                None
            };
            return Ok(Statement::Delete(name, index));
        }
        if self.is_name("print") || self.is_name("printf") {
            let formatted = self.is_name("printf");
            self.at = self.at.saturating_add(1);
            return self.print(formatted);
        }
        for word in ["getline", "nextfile", "return"] {
            if self.is_name(word) {
                return Err(format!("\"{word}\" is not interpreted"));
            }
        }
        self.expression().map(Statement::Expression)
    }

    fn print(&mut self, formatted: bool) -> Parsed<Statement> {
        let mut values = Vec::new();
        let before = std::mem::replace(&mut self.in_print, true);
        if !matches!(
            self.peek(),
            Token::Operator(";" | "}" | ">" | ">>" | "|") | Token::End
        ) {
            // A parenthesised list, unless an operator follows it.
            let start = self.at;
            let mut grouped = false;
            if self.take("(") {
                self.in_print = false;
                if let Ok(list) = self.list(")") {
                    let ends = matches!(
                        self.peek(),
                        Token::Operator(";" | "}" | ">" | ">>" | "|") | Token::End
                    );
                    if ends {
                        values = list;
                        grouped = true;
                    }
                }
                self.in_print = true;
            }
            if !grouped {
                self.at = start;
                values.push(self.expression()?);
                while self.take(",") {
                    self.terminators();
                    values.push(self.expression()?);
                }
            }
        }
        self.in_print = before;
        let mut to_error = false;
        if self.take(">") || self.take(">>") {
            match self.advance() {
                Token::String(path) if path == b"/dev/stderr" => to_error = true,
                Token::String(path) if path == b"/dev/stdout" => {}
                _ => return Err("printing to files is not interpreted".into()),
            }
        } else if self.take("|") {
            return Err("printing to commands is not interpreted".into());
        }
        Ok(if formatted {
            Statement::PrintFormat(values, to_error)
        } else {
            Statement::Print(values, to_error)
        })
    }

    /// Expressions separated by commas up to `end`.
    fn list(&mut self, end: &str) -> Parsed<Vec<Expression>> {
        let mut out = Vec::new();
        if self.take(end) {
            return Ok(out);
        }
        loop {
            self.terminators();
            out.push(self.expression()?);
            if self.take(end) {
                return Ok(out);
            }
            self.require(",")?;
        }
    }

    fn expression(&mut self) -> Parsed<Expression> {
        self.nested(|parser| {
            let left = parser.ternary()?;
            for operator in ["=", "+=", "-=", "*=", "/=", "%=", "^="] {
                if matches!(parser.peek(), Token::Operator(known) if *known == operator) {
                    let place = matches!(
                        left,
                        Expression::Variable(_) | Expression::Field(_) | Expression::Element(..)
                    );
                    if !place {
                        return Err("an assignment to what is no variable".into());
                    }
                    parser.at = parser.at.saturating_add(1);
                    parser.terminators();
                    let right = parser.expression()?;
                    return Ok(Expression::Assign(
                        Box::new(left),
                        operator,
                        Box::new(right),
                    ));
                }
            }
            Ok(left)
        })
    }

    fn ternary(&mut self) -> Parsed<Expression> {
        let condition = self.binary(0)?;
        if !self.take("?") {
            return Ok(condition);
        }
        self.terminators();
        let yes = self.expression()?;
        self.require(":")?;
        self.terminators();
        let no = self.expression()?;
        Ok(Expression::Choose(
            Box::new(condition),
            Box::new(yes),
            Box::new(no),
        ))
    }

    fn binary(&mut self, level: usize) -> Parsed<Expression> {
        match level {
            0 => self.chain(1, &["||"]),
            1 => self.chain(2, &["&&"]),
            2 => {
                let mut left = self.binary(3)?;
                while !self.in_for && matches!(self.peek(), Token::Name(word) if word == b"in") {
                    self.at = self.at.saturating_add(1);
                    let Token::Name(array) = self.advance() else {
                        return Err("\"in\" without an array".into());
                    };
                    left = Expression::In(vec![left], array);
                }
                Ok(left)
            }
            3 => {
                let mut left = self.binary(4)?;
                loop {
                    let negated = match self.peek() {
                        Token::Operator("~") => false,
                        Token::Operator("!~") => true,
                        _ => return Ok(left),
                    };
                    self.at = self.at.saturating_add(1);
                    let right = self.binary(4)?;
                    left = Expression::Match(Box::new(left), Box::new(right), negated);
                }
            }
            4 => {
                let left = self.binary(5)?;
                for operator in ["==", "!=", "<=", ">=", "<", ">"] {
                    let here = matches!(self.peek(), Token::Operator(known) if *known == operator);
                    if here && !(operator == ">" && self.in_print) {
                        self.at = self.at.saturating_add(1);
                        let right = self.binary(5)?;
                        return Ok(Expression::Binary(
                            operator,
                            Box::new(left),
                            Box::new(right),
                        ));
                    }
                }
                Ok(left)
            }
            5 => {
                let mut left = self.chain(6, &["+", "-"])?;
                while self.operand_follows() {
                    let right = self.chain(6, &["+", "-"])?;
                    left = Expression::Binary(" ", Box::new(left), Box::new(right));
                }
                Ok(left)
            }
            6 => self.chain(7, &["*", "/", "%"]),
            7 => self.nested(Self::unary),
            _ => Err("the expression is not interpreted".into()),
        }
    }

    fn operand_follows(&self) -> bool {
        match self.peek() {
            Token::Name(name) => name != b"in",
            Token::Number(_) | Token::String(_) | Token::Regex(_) | Token::Function(_) => true,
            Token::Operator(operator) => matches!(*operator, "(" | "$" | "!" | "++" | "--"),
            Token::End => false,
        }
    }

    fn chain(&mut self, next: usize, operators: &[&'static str]) -> Parsed<Expression> {
        let mut left = self.binary(next)?;
        loop {
            let found = operators.iter().find(
                |operator| matches!(self.peek(), Token::Operator(known) if known == *operator),
            );
            let Some(operator) = found else {
                return Ok(left);
            };
            self.at = self.at.saturating_add(1);
            if matches!(*operator, "||" | "&&") {
                self.terminators();
            }
            let right = self.binary(next)?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self) -> Parsed<Expression> {
        for operator in ["!", "-", "+"] {
            if self.take(operator) {
                let inner = self.nested(Self::unary)?;
                return Ok(Expression::Unary(operator, Box::new(inner)));
            }
        }
        let left = self.postfix()?;
        if self.take("^") {
            let right = self.nested(Self::unary)?;
            return Ok(Expression::Binary("^", Box::new(left), Box::new(right)));
        }
        Ok(left)
    }

    fn postfix(&mut self) -> Parsed<Expression> {
        for (operator, step) in [("++", 1.0), ("--", -1.0)] {
            if self.take(operator) {
                let place = self.nested(Self::primary)?;
                return Ok(Expression::Step(Box::new(place), step, true));
            }
        }
        let place = self.primary()?;
        let assignable = matches!(
            place,
            Expression::Variable(_) | Expression::Field(_) | Expression::Element(..)
        );
        for (operator, step) in [("++", 1.0), ("--", -1.0)] {
            if assignable && self.take(operator) {
                return Ok(Expression::Step(Box::new(place), step, false));
            }
        }
        Ok(place)
    }

    fn primary(&mut self) -> Parsed<Expression> {
        Ok(match self.advance() {
            Token::Number(number) => Expression::Number(number),
            Token::String(text) => Expression::String(text),
            Token::Regex(pattern) => Expression::Regex(Box::new(regex(&pattern)?)),
            Token::Operator("$") => {
                let inner = self.nested(Self::postfix_of_field)?;
                Expression::Field(Box::new(inner))
            }
            Token::Operator("(") => {
                let (print, in_for) = (
                    std::mem::take(&mut self.in_print),
                    std::mem::take(&mut self.in_for),
                );
                let mut list = self.list(")")?;
                (self.in_print, self.in_for) = (print, in_for);
                if list.len() > 1 {
                    if !self.take_name("in") {
                        return Err("a list is not interpreted here".into());
                    }
                    let Token::Name(array) = self.advance() else {
                        return Err("\"in\" without an array".into());
                    };
                    return Ok(Expression::In(list, array));
                }
                list.pop().ok_or("empty parentheses")?
            }
            Token::Name(name) => {
                if matches!(name.as_slice(), b"getline" | b"function" | b"func") {
                    return Err("\"getline\" and functions are not interpreted".into());
                }
                if self.take("[") {
                    Expression::Element(name, self.list("]")?)
                } else if name == b"length" {
                    Expression::Call(name, Vec::new())
                } else {
                    Expression::Variable(name)
                }
            }
            Token::Function(name) => {
                self.require("(")?;
                let print = std::mem::take(&mut self.in_print);
                let list = self.list(")")?;
                self.in_print = print;
                Expression::Call(name, list)
            }
            _ => return Err("the expression is not interpreted".into()),
        })
    }

    /// What `$` applies to: `$NF`, `$i++` is `($i)++`.
    fn postfix_of_field(&mut self) -> Parsed<Expression> {
        if self.take("-") {
            let inner = self.nested(Self::primary)?;
            return Ok(Expression::Unary("-", Box::new(inner)));
        }
        for (operator, step) in [("++", 1.0), ("--", -1.0)] {
            if self.take(operator) {
                let place = self.nested(Self::primary)?;
                return Ok(Expression::Step(Box::new(place), step, true));
            }
        }
        self.nested(Self::primary)
    }
}
