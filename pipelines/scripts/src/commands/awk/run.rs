//! Running an awk program.

use std::collections::{BTreeMap, HashMap};

use super::parser;
use super::program::{Expression, Pattern, Rule, Statement};
use super::value::Value;
use crate::regex::Regex;
use crate::shell::Shell;
use crate::stop::{Run, Stop};

pub(super) struct Machine<'s, 'a> {
    pub(super) shell: &'s mut Shell<'a>,
    pub(super) variables: HashMap<Vec<u8>, Value>,
    pub(super) arrays: HashMap<Vec<u8>, BTreeMap<Vec<u8>, Value>>,
    pub(super) record: Vec<u8>,
    pub(super) fields: Vec<Value>,
    out: Vec<u8>,
    depth: u32,
}

/// Why a statement left the ordinary order.
pub(super) enum Leave {
    Next,
    Exit(i32),
    Break,
    Continue,
    Stop(Stop),
}

impl From<Stop> for Leave {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

pub(super) type Did<T> = Result<T, Leave>;

pub(super) fn refuse<T>(why: impl Into<String>) -> Did<T> {
    Err(Leave::Stop(Stop::defer(crate::call::Reason::Usage, why)))
}

pub(super) fn run(
    shell: &mut Shell<'_>,
    program: &[Rule],
    presets: &[(Vec<u8>, Vec<u8>)],
    operands: &[Vec<u8>],
) -> Run<i32> {
    let mut machine = Machine {
        shell,
        variables: HashMap::new(),
        arrays: HashMap::new(),
        record: Vec::new(),
        fields: Vec::new(),
        out: Vec::new(),
        depth: 0,
    };
    for (name, value) in [
        ("FS", " "),
        ("OFS", " "),
        ("ORS", "\n"),
        ("RS", "\n"),
        ("SUBSEP", "\u{1c}"),
    ] {
        machine.set(name, Value::String(value.as_bytes().to_vec()));
    }
    for name in ["NR", "NF", "FNR", "RSTART", "RLENGTH"] {
        machine.set(name, Value::Number(0.0));
    }
    let environment: BTreeMap<Vec<u8>, Value> = machine
        .shell
        .environment
        .variables
        .exported()
        .map(|(name, value)| (name.to_vec(), Value::Input(value.to_vec())))
        .collect();
    machine.arrays.insert(b"ENVIRON".to_vec(), environment);
    for (name, value) in presets {
        machine
            .variables
            .insert(name.clone(), Value::Input(value.clone()));
    }
    let mut status = 0;
    let result = machine.whole(program, operands);
    let ended = match result {
        Ok(()) => false,
        Err(Leave::Exit(code)) => {
            status = code;
            true
        }
        Err(Leave::Stop(stop)) => return Err(stop),
        Err(_) => false,
    };
    // END runs after an exit in a rule too.
    let _ = ended;
    for rule in program {
        if matches!(rule.pattern, Pattern::End) {
            match machine.block(&rule.action) {
                Ok(()) => {}
                Err(Leave::Exit(code)) => {
                    status = code;
                    break;
                }
                Err(Leave::Stop(stop)) => return Err(stop),
                Err(_) => break,
            }
        }
    }
    let out = std::mem::take(&mut machine.out);
    shell.out(&out)?;
    Ok(status)
}

impl Machine<'_, '_> {
    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.variables.insert(name.as_bytes().to_vec(), value);
    }

    fn get(&self, name: &str) -> Value {
        self.variables
            .get(name.as_bytes())
            .cloned()
            .unwrap_or(Value::Unset)
    }

    pub(super) fn text(&self, value: &Value) -> Did<Vec<u8>> {
        match value.text() {
            Some(text) => Ok(text),
            None => refuse("prints a number with a fraction"),
        }
    }

    pub(super) fn string(&self, name: &str) -> Did<Vec<u8>> {
        let value = self.get(name);
        self.text(&value)
    }

    fn whole(&mut self, program: &[Rule], operands: &[Vec<u8>]) -> Did<()> {
        for rule in program {
            if matches!(rule.pattern, Pattern::Begin) {
                self.block(&rule.action)?;
            }
        }
        if program
            .iter()
            .all(|rule| matches!(rule.pattern, Pattern::Begin))
        {
            return Ok(());
        }
        let mut open: Vec<bool> = program.iter().map(|_| false).collect();
        let mut number = 0.0_f64;
        let mut any = false;
        let mut inputs: Vec<Option<Vec<u8>>> = Vec::new();
        for operand in operands {
            inputs.push(Some(operand.clone()));
        }
        if inputs.is_empty() {
            inputs.push(None);
        }
        for input in inputs {
            let text = match &input {
                None => self.shell.read_all()?,
                Some(path) if path == b"-" => self.shell.read_all()?,
                Some(path) => {
                    if let Some(at) = path.iter().position(|&byte| byte == b'=')
                        && crate::syntax::is_name(path.get(..at).unwrap_or_default())
                    {
                        let (name, value) = path.split_at(at);
                        let value = super::unescape(value.get(1..).unwrap_or_default());
                        self.variables.insert(name.to_vec(), Value::Input(value));
                        if !any && operands.iter().all(|operand| operand.contains(&b'=')) {
                            return refuse("reads the standard input after an assignment");
                        }
                        continue;
                    }
                    match self.shell.files.read(path)? {
                        Ok(text) => text,
                        Err(errno) => {
                            self.shell.complain(b"awk", errno.to_string())?;
                            return Err(Leave::Exit(2));
                        }
                    }
                }
            };
            any = true;
            self.set("FILENAME", Value::String(input.unwrap_or_default()));
            let mut in_file = 0.0_f64;
            let separator = self.string("RS")?;
            for record in records(&text, &separator)? {
                self.shell.files.budget.step(2)?;
                number += 1.0;
                in_file += 1.0;
                self.set("NR", Value::Number(number));
                self.set("FNR", Value::Number(in_file));
                self.record = record.to_vec();
                self.split_record()?;
                match self.record_rules(program, &mut open) {
                    Ok(()) | Err(Leave::Next) => {}
                    Err(leave) => return Err(leave),
                }
            }
        }
        Ok(())
    }

    fn record_rules(&mut self, program: &[Rule], open: &mut [bool]) -> Did<()> {
        for (index, rule) in program.iter().enumerate() {
            let applies = match &rule.pattern {
                Pattern::Begin | Pattern::End => false,
                Pattern::Always => true,
                Pattern::When(condition) => self.evaluate(condition)?.is_true(),
                Pattern::Range(first, last) => {
                    let was = open.get(index).copied().unwrap_or(false);
                    let begins = was || self.evaluate(first)?.is_true();
                    if begins {
                        let ends = self.evaluate(last)?.is_true();
                        if let Some(place) = open.get_mut(index) {
                            *place = !ends;
                        }
                    }
                    begins
                }
            };
            if applies {
                self.block(&rule.action)?;
            }
        }
        Ok(())
    }

    pub(super) fn compile(&self, pattern: &[u8]) -> Did<Regex> {
        match parser::regex(pattern) {
            Ok(regex) => Ok(regex),
            Err(why) => refuse(why),
        }
    }

    fn block(&mut self, statements: &[Statement]) -> Did<()> {
        for statement in statements {
            self.statement(statement)?;
        }
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Did<()> {
        self.shell.files.budget.step(1)?;
        match statement {
            Statement::Expression(expression) => {
                self.evaluate(expression)?;
            }
            Statement::Block(statements) => self.block(statements)?,
            Statement::Print(values, to_error) => {
                let mut line = if values.is_empty() {
                    self.record.clone()
                } else {
                    let mut parts = Vec::new();
                    for value in values {
                        let value = self.evaluate(value)?;
                        parts.push(self.text(&value)?);
                    }
                    let separator = self.string("OFS")?;
                    parts.join(separator.as_slice())
                };
                line.extend(self.string("ORS")?);
                self.emit(&line, *to_error)?;
            }
            Statement::PrintFormat(values, to_error) => {
                let text = self.format(values)?;
                self.emit(&text, *to_error)?;
            }
            Statement::If(condition, yes, no) => {
                if self.evaluate(condition)?.is_true() {
                    self.block(yes)?;
                } else {
                    self.block(no)?;
                }
            }
            Statement::While(condition, body) => {
                while self.evaluate(condition)?.is_true() {
                    if !self.round(body)? {
                        break;
                    }
                }
            }
            Statement::DoWhile(body, condition) => {
                while self.round(body)? && self.evaluate(condition)?.is_true() {}
            }
            Statement::For(first, condition, step, body) => {
                if let Some(first) = first {
                    self.statement(first)?;
                }
                loop {
                    let goes_on = match condition {
                        Some(condition) => self.evaluate(condition)?.is_true(),
                        None => true,
                    };
                    if !goes_on || !self.round(body)? {
                        break;
                    }
                    if let Some(step) = step {
                        self.statement(step)?;
                    }
                }
            }
            Statement::ForIn(variable, array, body) => {
                // The order is anyone's; more than one element would make the outcome a guess. An environment has
                // no order to begin with: scripts that go through it look for names.
                let keys: Vec<Vec<u8>> = self
                    .arrays
                    .get(array)
                    .map(|array| array.keys().cloned().collect())
                    .unwrap_or_default();
                if keys.len() > 1 && array != b"ENVIRON" {
                    return refuse("goes through an array in an order that awk leaves open");
                }
                for key in keys {
                    self.variables.insert(variable.clone(), Value::Input(key));
                    if !self.round(body)? {
                        break;
                    }
                }
            }
            Statement::Next => return Err(Leave::Next),
            Statement::Break => return Err(Leave::Break),
            Statement::Continue => return Err(Leave::Continue),
            Statement::Exit(code) => {
                let code = match code {
                    Some(code) => self.evaluate(code)?.integer(),
                    None => 0,
                };
                return Err(Leave::Exit(i32::try_from(code & 0xff).unwrap_or(0)));
            }
            Statement::Delete(name, None) => {
                self.arrays.remove(name);
            }
            Statement::Delete(name, Some(index)) => {
                let key = self.key(index)?;
                if let Some(array) = self.arrays.get_mut(name) {
                    array.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// One round of a loop; false when it ends.
    fn round(&mut self, body: &[Statement]) -> Did<bool> {
        self.shell.files.budget.step(1)?;
        match self.block(body) {
            Ok(()) | Err(Leave::Continue) => Ok(true),
            Err(Leave::Break) => Ok(false),
            Err(leave) => Err(leave),
        }
    }

    fn emit(&mut self, text: &[u8], to_error: bool) -> Did<()> {
        if to_error {
            self.shell.write_fd(2, text)?;
            return Ok(());
        }
        self.out.extend_from_slice(text);
        let size = u64::try_from(self.out.len()).unwrap_or(u64::MAX);
        self.shell.files.budget.object(size)?;
        Ok(())
    }

    pub(super) fn key(&mut self, index: &[Expression]) -> Did<Vec<u8>> {
        let mut parts = Vec::new();
        for expression in index {
            let value = self.evaluate(expression)?;
            parts.push(self.text(&value)?);
        }
        let separator = self.string("SUBSEP")?;
        Ok(parts.join(separator.as_slice()))
    }

    pub(super) fn evaluate(&mut self, expression: &Expression) -> Did<Value> {
        self.shell.files.budget.step(1)?;
        self.depth = self.depth.saturating_add(1);
        if self.depth > 200 {
            return refuse("the expression nests too deep");
        }
        let value = self.value(expression);
        self.depth = self.depth.saturating_sub(1);
        value
    }

    fn value(&mut self, expression: &Expression) -> Did<Value> {
        let truth = |answer: bool| Value::Number(if answer { 1.0 } else { 0.0 });
        Ok(match expression {
            Expression::Number(number) => Value::Number(*number),
            Expression::String(text) => Value::String(text.clone()),
            Expression::Regex(regex) => {
                truth(regex.is_match(&self.record, &mut self.shell.files.budget)?)
            }
            Expression::Variable(name) => self.variables.get(name).cloned().unwrap_or(Value::Unset),
            Expression::Field(index) => {
                let index = self.evaluate(index)?.integer();
                self.field(index)?
            }
            Expression::Element(name, index) => {
                let key = self.key(index)?;
                let array = self.arrays.entry(name.clone()).or_default();
                array.entry(key).or_insert(Value::Unset).clone()
            }
            Expression::In(index, name) => {
                let key = self.key(index)?;
                truth(
                    self.arrays
                        .get(name)
                        .is_some_and(|array| array.contains_key(&key)),
                )
            }
            Expression::Assign(place, operator, right) => {
                let right = self.evaluate(right)?;
                let value = match operator.strip_suffix('=') {
                    Some("") | None => right,
                    Some(operator) => {
                        let left = self.evaluate(place)?;
                        Value::Number(arithmetic(operator, left.number(), right.number())?)
                    }
                };
                self.store(place, value.clone())?;
                value
            }
            Expression::Step(place, step, new_counts) => {
                let before = self.evaluate(place)?.number();
                self.store(place, Value::Number(before + step))?;
                Value::Number(if *new_counts { before + step } else { before })
            }
            Expression::Unary("!", inner) => truth(!self.evaluate(inner)?.is_true()),
            Expression::Unary("-", inner) => Value::Number(-self.evaluate(inner)?.number()),
            Expression::Unary(_, inner) => Value::Number(self.evaluate(inner)?.number()),
            Expression::Binary("||", left, right) => {
                truth(self.evaluate(left)?.is_true() || self.evaluate(right)?.is_true())
            }
            Expression::Binary("&&", left, right) => {
                truth(self.evaluate(left)?.is_true() && self.evaluate(right)?.is_true())
            }
            Expression::Binary(" ", left, right) => {
                let left = self.evaluate(left)?;
                let right = self.evaluate(right)?;
                let text = [self.text(&left)?, self.text(&right)?].concat();
                self.shell.files.budget.bytes_of(&text)?;
                Value::String(text)
            }
            Expression::Binary(operator @ ("==" | "!=" | "<" | ">" | "<=" | ">="), left, right) => {
                let left = self.evaluate(left)?;
                let right = self.evaluate(right)?;
                let Some(order) = left.compare(&right) else {
                    return refuse("compares a number with a fraction as a text");
                };
                truth(match *operator {
                    "==" => order.is_eq(),
                    "!=" => order.is_ne(),
                    "<" => order.is_lt(),
                    ">" => order.is_gt(),
                    "<=" => order.is_le(),
                    _ => order.is_ge(),
                })
            }
            Expression::Binary(operator, left, right) => {
                let left = self.evaluate(left)?.number();
                let right = self.evaluate(right)?.number();
                Value::Number(arithmetic(operator, left, right)?)
            }
            Expression::Choose(condition, yes, no) => {
                if self.evaluate(condition)?.is_true() {
                    self.evaluate(yes)?
                } else {
                    self.evaluate(no)?
                }
            }
            Expression::Match(left, right, negated) => {
                let text = self.evaluate(left)?;
                let text = self.text(&text)?;
                let found = self.matches(&text, right)?;
                truth(found != *negated)
            }
            Expression::Call(name, arguments) => self.call(name, arguments)?,
        })
    }

    pub(super) fn regex_of(&mut self, expression: &Expression) -> Did<Regex> {
        match expression {
            Expression::Regex(regex) => Ok((**regex).clone()),
            other => {
                let value = self.evaluate(other)?;
                let pattern = self.text(&value)?;
                self.compile(&pattern)
            }
        }
    }

    fn matches(&mut self, text: &[u8], expression: &Expression) -> Did<bool> {
        let regex = self.regex_of(expression)?;
        Ok(regex.is_match(text, &mut self.shell.files.budget)?)
    }

    pub(super) fn argument_text(&mut self, arguments: &[Expression], index: usize) -> Did<Vec<u8>> {
        match arguments.get(index) {
            Some(argument) => {
                let value = self.evaluate(argument)?;
                self.text(&value)
            }
            None => Ok(Vec::new()),
        }
    }
}

fn arithmetic(operator: &str, left: f64, right: f64) -> Did<f64> {
    Ok(match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" | "%" if right == 0.0 => return Err(Leave::Exit(2)),
        "/" => left / right,
        "%" => left % right,
        "^" => left.powf(right),
        _ => return refuse("the operator is not interpreted"),
    })
}

fn records<'t>(text: &'t [u8], separator: &[u8]) -> Did<Vec<&'t [u8]>> {
    let mut out: Vec<&[u8]> = match separator {
        [byte] => text.split(|other| other == byte).collect(),
        _ => return refuse("records are not parted by one character"),
    };
    if out.last().is_some_and(|last| last.is_empty()) {
        out.pop();
    }
    Ok(out)
}
