//! Running an awk program.

use std::collections::{BTreeMap, HashMap};

use super::parser::{self, Expression, Pattern, Rule, Statement};
use super::value::Value;
use crate::regex::Regex;
use crate::shell::Shell;
use crate::stop::{Run, Stop};

/// Highest field that may be made.
const MAX_FIELDS: usize = 100_000;

struct Machine<'s, 'a> {
    shell: &'s mut Shell<'a>,
    variables: HashMap<Vec<u8>, Value>,
    arrays: HashMap<Vec<u8>, BTreeMap<Vec<u8>, Value>>,
    record: Vec<u8>,
    fields: Vec<Value>,
    out: Vec<u8>,
    depth: u32,
}

/// Why a statement left the ordinary order.
enum Leave {
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

type Did<T> = Result<T, Leave>;

fn refuse<T>(why: impl Into<String>) -> Did<T> {
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
    for (name, value) in [("FS", " "), ("OFS", " "), ("ORS", "\n"), ("RS", "\n"), ("SUBSEP", "\u{1c}")] {
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
        machine.variables.insert(name.clone(), Value::Input(value.clone()));
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
    fn set(&mut self, name: &str, value: Value) {
        self.variables.insert(name.as_bytes().to_vec(), value);
    }

    fn get(&self, name: &str) -> Value {
        self.variables
            .get(name.as_bytes())
            .cloned()
            .unwrap_or(Value::Unset)
    }

    fn text(&self, value: &Value) -> Did<Vec<u8>> {
        match value.text() {
            Some(text) => Ok(text),
            None => refuse("prints a number with a fraction"),
        }
    }

    fn string(&self, name: &str) -> Did<Vec<u8>> {
        let value = self.get(name);
        self.text(&value)
    }

    fn whole(&mut self, program: &[Rule], operands: &[Vec<u8>]) -> Did<()> {
        for rule in program {
            if matches!(rule.pattern, Pattern::Begin) {
                self.block(&rule.action)?;
            }
        }
        if program.iter().all(|rule| matches!(rule.pattern, Pattern::Begin)) {
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

    fn split_record(&mut self) -> Did<()> {
        let separator = self.string("FS")?;
        let record = self.record.clone();
        let parts = self.split_text(&record, &separator)?;
        self.fields = parts.into_iter().map(Value::Input).collect();
        self.count_fields();
        Ok(())
    }

    fn count_fields(&mut self) {
        let count = u32::try_from(self.fields.len()).unwrap_or(u32::MAX);
        self.set("NF", Value::Number(f64::from(count)));
    }

    fn split_text(&mut self, text: &[u8], separator: &[u8]) -> Did<Vec<Vec<u8>>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if separator == b" " {
            return Ok(text
                .split(|byte| matches!(byte, b' ' | b'\t' | b'\n'))
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect());
        }
        if let [byte] = separator
            && !b"\\".contains(byte)
        {
            return Ok(text.split(|other| other == byte).map(<[u8]>::to_vec).collect());
        }
        if separator.is_empty() {
            return refuse("splits into characters");
        }
        let regex = self.compile(separator)?;
        let mut out = Vec::new();
        let mut at = 0_usize;
        let mut from = 0_usize;
        while let Some(captures) = regex.find(text, from, &mut self.shell.files.budget)? {
            let Some(Some((begin, end))) = captures.first().copied() else {
                break;
            };
            if end == begin {
                from = end.saturating_add(1);
                if from > text.len() {
                    break;
                }
                continue;
            }
            out.push(text.get(at..begin).unwrap_or_default().to_vec());
            (at, from) = (end, end);
        }
        out.push(text.get(at..).unwrap_or_default().to_vec());
        Ok(out)
    }

    fn compile(&self, pattern: &[u8]) -> Did<Regex> {
        match parser::regex(pattern) {
            Ok(regex) => Ok(regex),
            Err(why) => refuse(why),
        }
    }

    fn rebuild(&mut self) -> Did<()> {
        let separator = self.string("OFS")?;
        let mut parts = Vec::new();
        for field in &self.fields {
            parts.push(self.text(field)?);
        }
        self.record = parts.join(separator.as_slice());
        Ok(())
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
                // The order is anyone's; more than one element would make the outcome a guess.
                let keys: Vec<Vec<u8>> = self
                    .arrays
                    .get(array)
                    .map(|array| array.keys().cloned().collect())
                    .unwrap_or_default();
                if keys.len() > 1 {
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

    fn key(&mut self, index: &[Expression]) -> Did<Vec<u8>> {
        let mut parts = Vec::new();
        for expression in index {
            let value = self.evaluate(expression)?;
            parts.push(self.text(&value)?);
        }
        let separator = self.string("SUBSEP")?;
        Ok(parts.join(separator.as_slice()))
    }

    fn field(&self, index: i64) -> Did<Value> {
        match usize::try_from(index) {
            Ok(0) => Ok(Value::Input(self.record.clone())),
            Ok(index) => Ok(self
                .fields
                .get(index.saturating_sub(1))
                .cloned()
                .unwrap_or(Value::Unset)),
            Err(_) => refuse("a field has a negative number"),
        }
    }

    fn store(&mut self, place: &Expression, value: Value) -> Did<()> {
        match place {
            Expression::Variable(name) => {
                let resize = name == b"NF";
                let count = value.integer();
                self.variables.insert(name.clone(), value);
                if resize {
                    let count = usize::try_from(count).unwrap_or(0).min(MAX_FIELDS);
                    self.fields.resize(count, Value::Input(Vec::new()));
                    self.rebuild()?;
                }
            }
            Expression::Element(name, index) => {
                let key = self.key(index)?;
                self.arrays.entry(name.clone()).or_default().insert(key, value);
            }
            Expression::Field(index) => {
                let index = self.evaluate(index)?.integer();
                match usize::try_from(index) {
                    Ok(0) => {
                        self.record = self.text(&value)?;
                        self.split_record()?;
                    }
                    Ok(index) if index <= MAX_FIELDS => {
                        if self.fields.len() < index {
                            self.fields.resize(index, Value::Input(Vec::new()));
                        }
                        if let Some(field) = self.fields.get_mut(index.saturating_sub(1)) {
                            *field = value;
                        }
                        self.count_fields();
                        self.rebuild()?;
                    }
                    _ => return refuse("a field's number is out of range"),
                }
            }
            _ => return refuse("assigns to what is no variable"),
        }
        Ok(())
    }

    fn evaluate(&mut self, expression: &Expression) -> Did<Value> {
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
                truth(self.arrays.get(name).is_some_and(|array| array.contains_key(&key)))
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

    fn regex_of(&mut self, expression: &Expression) -> Did<Regex> {
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

    fn argument_text(&mut self, arguments: &[Expression], index: usize) -> Did<Vec<u8>> {
        match arguments.get(index) {
            Some(argument) => {
                let value = self.evaluate(argument)?;
                self.text(&value)
            }
            None => Ok(Vec::new()),
        }
    }

    fn call(&mut self, name: &[u8], arguments: &[Expression]) -> Did<Value> {
        let count = |count: usize| Value::Number(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        Ok(match (name, arguments.len()) {
            (b"length", 0) => count(self.record.len()),
            (b"length", 1) => {
                if let Some(Expression::Variable(name)) = arguments.first()
                    && let Some(array) = self.arrays.get(name)
                {
                    return Ok(count(array.len()));
                }
                count(self.argument_text(arguments, 0)?.len())
            }
            (b"substr", 2 | 3) => {
                let text = self.argument_text(arguments, 0)?;
                let mut numbers = Vec::new();
                for argument in arguments.get(1..).unwrap_or_default() {
                    numbers.push(self.evaluate(argument)?.number());
                }
                let start = numbers.first().copied().unwrap_or(1.0).round();
                if start < 1.0 {
                    return refuse("takes a part before the first character, where awks differ");
                }
                let end = match numbers.get(1) {
                    Some(length) => start + length.round(),
                    None => f64::INFINITY,
                };
                let part: Vec<u8> = text
                    .iter()
                    .enumerate()
                    .filter(|&(index, _)| {
                        let at = f64::from(u32::try_from(index).unwrap_or(u32::MAX)) + 1.0;
                        at >= start && at < end
                    })
                    .map(|(_, &byte)| byte)
                    .collect();
                Value::String(part)
            }
            (b"index", 2) => {
                let text = self.argument_text(arguments, 0)?;
                let wanted = self.argument_text(arguments, 1)?;
                if wanted.is_empty() {
                    return Ok(Value::Number(0.0));
                }
                let at = text.windows(wanted.len()).position(|part| part == wanted);
                count(at.map_or(0, |at| at.saturating_add(1)))
            }
            (b"tolower", 1) => Value::String(self.argument_text(arguments, 0)?.to_ascii_lowercase()),
            (b"toupper", 1) => Value::String(self.argument_text(arguments, 0)?.to_ascii_uppercase()),
            (b"int", 1) => match arguments.first() {
                Some(argument) => Value::Number(self.evaluate(argument)?.number().trunc()),
                None => Value::Number(0.0),
            },
            (b"sprintf", 1..) => Value::String(self.format(arguments)?),
            (b"split", 2 | 3) => {
                let text = self.argument_text(arguments, 0)?;
                let Some(Expression::Variable(array)) = arguments.get(1) else {
                    return refuse("splits into what is no array");
                };
                let separator = match arguments.get(2) {
                    Some(Expression::Regex(_)) => return refuse("splits at an expression"),
                    Some(other) => {
                        let value = self.evaluate(other)?;
                        self.text(&value)?
                    }
                    None => self.string("FS")?,
                };
                let parts = self.split_text(&text, &separator)?;
                let total = parts.len();
                let elements = parts
                    .into_iter()
                    .enumerate()
                    .map(|(index, part)| {
                        let key = index.saturating_add(1).to_string().into_bytes();
                        (key, Value::Input(part))
                    })
                    .collect();
                self.arrays.insert(array.clone(), elements);
                count(total)
            }
            (b"match", 2) => {
                let text = self.argument_text(arguments, 0)?;
                let Some(pattern) = arguments.get(1) else {
                    return refuse("matches nothing");
                };
                let regex = self.regex_of(pattern)?;
                let found = regex.find(&text, 0, &mut self.shell.files.budget)?;
                let whole = found.and_then(|captures| captures.first().copied().flatten());
                let (start, length) = match whole {
                    Some((begin, end)) => (
                        count(begin.saturating_add(1)),
                        count(end.saturating_sub(begin)),
                    ),
                    None => (Value::Number(0.0), Value::Number(-1.0)),
                };
                self.set("RSTART", start.clone());
                self.set("RLENGTH", length);
                start
            }
            (b"sub" | b"gsub", 2 | 3) => self.substitute(arguments, name == b"gsub")?,
            _ => {
                return refuse(format!(
                    "the function {} is not interpreted",
                    String::from_utf8_lossy(name)
                ));
            }
        })
    }

    fn substitute(&mut self, arguments: &[Expression], global: bool) -> Did<Value> {
        let Some(pattern) = arguments.first() else {
            return refuse("substitutes nothing");
        };
        let regex = self.regex_of(pattern)?;
        let replacement = self.argument_text(arguments, 1)?;
        let whole = Expression::Field(Box::new(Expression::Number(0.0)));
        let place = arguments.get(2).unwrap_or(&whole);
        let value = self.evaluate(place)?;
        let text = self.text(&value)?;
        let mut out = Vec::new();
        let mut at = 0_usize;
        let mut count = 0.0_f64;
        let mut last_end = None;
        while at <= text.len() {
            let Some(captures) = regex.find(&text, at, &mut self.shell.files.budget)? else {
                break;
            };
            let Some(Some((begin, end))) = captures.first().copied() else {
                break;
            };
            out.extend_from_slice(text.get(at..begin).unwrap_or_default());
            if end > begin || last_end != Some(begin) {
                count += 1.0;
                let mut bytes = replacement.iter().copied().peekable();
                while let Some(byte) = bytes.next() {
                    match (byte, bytes.peek()) {
                        (b'\\', Some(&next)) if matches!(next, b'&' | b'\\') => {
                            bytes.next();
                            out.push(next);
                        }
                        (b'&', _) => out.extend_from_slice(text.get(begin..end).unwrap_or_default()),
                        (byte, _) => out.push(byte),
                    }
                }
                last_end = Some(end);
            }
            if end > begin {
                at = end;
            } else {
                out.extend(text.get(begin));
                at = begin.saturating_add(1);
            }
            self.shell.files.budget.object(u64::try_from(out.len()).unwrap_or(u64::MAX))?;
            if !global {
                break;
            }
        }
        out.extend_from_slice(text.get(at.min(text.len())..).unwrap_or_default());
        if count > 0.0 {
            self.store(place, Value::String(out))?;
        }
        Ok(Value::Number(count))
    }

    fn format(&mut self, values: &[Expression]) -> Did<Vec<u8>> {
        let format = self.argument_text(values, 0)?;
        let mut next = 1_usize;
        let mut out = Vec::new();
        let mut bytes = format.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                out.push(byte);
                continue;
            }
            if bytes.peek() == Some(&b'%') {
                bytes.next();
                out.push(b'%');
                continue;
            }
            let mut flags = Vec::new();
            while let Some(flag) = bytes.next_if(|byte| b"-0".contains(byte)) {
                flags.push(flag);
            }
            let mut width = 0_usize;
            while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
                width = width
                    .saturating_mul(10)
                    .saturating_add(usize::from(digit.wrapping_sub(b'0')))
                    .min(10_000);
            }
            let argument = values.get(next);
            next = next.saturating_add(1);
            let value = match argument {
                Some(argument) => self.evaluate(argument)?,
                None => Value::Unset,
            };
            let text = match bytes.next() {
                Some(b's') => self.text(&value)?,
                Some(b'd' | b'i') => value.integer().to_string().into_bytes(),
                Some(b'c') => match &value {
                    Value::Number(_) => return refuse("prints a character by its number"),
                    other => self.text(other)?.get(..1).unwrap_or_default().to_vec(),
                },
                Some(b'x') => format!("{:x}", value.integer()).into_bytes(),
                Some(b'o') => format!("{:o}", value.integer()).into_bytes(),
                _ => return refuse("the format is not interpreted"),
            };
            let padding = width.saturating_sub(text.len());
            if flags.contains(&b'-') {
                out.extend_from_slice(&text);
                out.extend(std::iter::repeat_n(b' ', padding));
            } else if flags.contains(&b'0') && !text.starts_with(b"-") {
                out.extend(std::iter::repeat_n(b'0', padding));
                out.extend_from_slice(&text);
            } else {
                out.extend(std::iter::repeat_n(b' ', padding));
                out.extend_from_slice(&text);
            }
        }
        Ok(out)
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
