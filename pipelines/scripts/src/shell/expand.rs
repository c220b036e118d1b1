//! Word expansion (POSIX, 2.6).

use super::Shell;
use super::fields::{self, Segment};
use super::pattern::Pattern;
use crate::call::Reason;
use crate::stop::{Run, Stop};
use crate::syntax::{Dialect, Operation, Parameter, Part, Word, is_name};

/// How the parts of a word are taken.
#[derive(Debug, Clone, Copy)]
struct Mode {
    quoted: bool,
    /// Unquoted characters are split too: inside `${name-word}`.
    literal_splits: bool,
    /// A tilde is expanded after a colon too.
    assignment: bool,
}

const PLAIN: Mode = Mode {
    quoted: false,
    literal_splits: false,
    assignment: false,
};

impl Shell<'_> {
    /// Fields of words: every expansion, splitting, pathname expansion, quote removal.
    pub(crate) fn expand_fields(&mut self, words: &[Word]) -> Run<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        for word in words {
            self.expand_into(word, &mut out)?;
        }
        Ok(out)
    }

    pub(crate) fn expand_into(&mut self, word: &Word, out: &mut Vec<Vec<u8>>) -> Run<()> {
        self.files.budget.step(1)?;
        if let Some(literal) = word.literal()
            && !literal.starts_with(b"~")
            && !literal
                .iter()
                .any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'{'))
        {
            out.push(literal.to_vec());
            return Ok(());
        }
        if self.environment.dialect == Dialect::Bash {
            refuse_braces(word)?;
        }
        let segments = self.segments(word, PLAIN)?;
        let ifs = self.ifs();
        for field in fields::split(&segments, &ifs) {
            self.files
                .budget
                .step(u64::try_from(field.0.len()).unwrap_or(u64::MAX))?;
            if field.is_pattern() && !self.environment.options.noglob {
                out.extend(self.glob(&field)?);
            } else {
                out.push(field.bytes());
            }
        }
        Ok(())
    }

    /// A word without splitting and pathname expansion.
    pub(crate) fn expand_joined(&mut self, word: &Word) -> Run<Vec<u8>> {
        let segments = self.segments(word, PLAIN)?;
        Ok(fields::join(&segments, b" ").bytes())
    }

    /// The value of an assignment.
    pub(crate) fn expand_assigned(&mut self, word: &Word) -> Run<Vec<u8>> {
        let mode = Mode {
            assignment: true,
            ..PLAIN
        };
        let segments = self.segments(word, mode)?;
        Ok(fields::join(&segments, b" ").bytes())
    }

    pub(crate) fn expand_pattern(&mut self, word: &Word) -> Run<Pattern> {
        let segments = self.segments(word, PLAIN)?;
        Ok(Pattern::new(&fields::join(&segments, b" ").0))
    }

    fn segments(&mut self, word: &Word, mode: Mode) -> Run<Vec<Segment>> {
        let mut out = Vec::new();
        self.deeper(|shell| shell.parts(&word.0, mode, true, &mut out))?;
        Ok(out)
    }

    fn ifs(&self) -> Vec<u8> {
        self.environment
            .variables
            .get(b"IFS")
            .unwrap_or(b" \t\n")
            .to_vec()
    }

    fn parts(
        &mut self,
        parts: &[Part],
        mode: Mode,
        at_start: bool,
        out: &mut Vec<Segment>,
    ) -> Run<()> {
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Literal(bytes) => {
                    let bytes = if mode.quoted {
                        bytes.clone()
                    } else {
                        let ends = index.checked_add(1) == Some(parts.len());
                        self.tilde(bytes, at_start && index == 0, ends, mode, out)?
                    };
                    out.push(Segment::Text {
                        bytes,
                        quoted: mode.quoted,
                        split: mode.literal_splits,
                    });
                }
                Part::Quoted(bytes) => out.push(Segment::Text {
                    bytes: bytes.clone(),
                    quoted: true,
                    split: false,
                }),
                Part::DoubleQuoted(inner) => {
                    let before = out.len();
                    let inner_mode = Mode {
                        quoted: true,
                        ..mode
                    };
                    self.deeper(|shell| shell.parts(inner, inner_mode, false, out))?;
                    let only_parameters = inner.iter().all(is_at) && !inner.is_empty();
                    if out.len() == before && !only_parameters {
                        out.push(Segment::Text {
                            bytes: Vec::new(),
                            quoted: true,
                            split: false,
                        });
                    }
                }
                Part::Parameter(parameter) => {
                    self.deeper(|shell| shell.parameter(parameter, mode, out))?;
                }
                Part::Substitution(list) => {
                    let bytes = self.substitute(list)?;
                    out.push(expanded(bytes, mode));
                }
                Part::Arithmetic(word) => {
                    let expression = self.deeper(|shell| shell.expand_joined(word))?;
                    let value = self.arithmetic(&expression)?;
                    out.push(expanded(value.to_string().into_bytes(), mode));
                }
                Part::Foreign(text) => {
                    return Err(Stop::defer(
                        Reason::Syntax,
                        format!("\"{text}\" is not POSIX"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Expands leading tildes of `bytes`; returns what is left of it.
    fn tilde(
        &mut self,
        bytes: &[u8],
        at_start: bool,
        ends: bool,
        mode: Mode,
        out: &mut Vec<Segment>,
    ) -> Run<Vec<u8>> {
        if !bytes.contains(&b'~') {
            return Ok(bytes.to_vec());
        }
        let mut rest = bytes;
        let mut pending: Vec<u8> = Vec::new();
        let mut may_begin = at_start;
        loop {
            if may_begin && rest.first() == Some(&b'~') {
                let end = rest
                    .iter()
                    .position(|&byte| byte == b'/' || (mode.assignment && byte == b':'))
                    .unwrap_or(rest.len());
                let user = rest.get(1..end).unwrap_or_default();
                let whole = end < rest.len() || ends;
                if whole && let Some(home) = self.home_of(user)? {
                    out.push(Segment::Text {
                        bytes: std::mem::take(&mut pending),
                        quoted: false,
                        split: false,
                    });
                    out.push(Segment::Text {
                        bytes: home,
                        quoted: true,
                        split: false,
                    });
                    rest = rest.get(end..).unwrap_or_default();
                }
            }
            if !mode.assignment {
                break;
            }
            let Some(colon) = rest.iter().position(|&byte| byte == b':') else {
                break;
            };
            let (head, tail) = rest.split_at(colon.saturating_add(1));
            pending.extend_from_slice(head);
            rest = tail;
            may_begin = true;
        }
        pending.extend_from_slice(rest);
        Ok(pending)
    }

    fn home_of(&mut self, user: &[u8]) -> Run<Option<Vec<u8>>> {
        if user.is_empty() {
            return Ok(self.environment.variables.get(b"HOME").map(<[u8]>::to_vec));
        }
        crate::commands::accounts::home_of(self, user)
    }

    /// The output of a command substitution, trailing newlines dropped.
    fn substitute(&mut self, list: &crate::syntax::List) -> Run<Vec<u8>> {
        let (status, mut bytes) = self.captured(|shell| {
            shell.subshell(|shell| {
                shell.tested = false;
                if shell.environment.dialect == Dialect::Bash {
                    shell.environment.options.errexit = false;
                }
                shell.deeper(|shell| shell.list(list))
            })
        })?;
        self.substituted = Some(status);
        self.environment.status = status;
        while bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        bytes.retain(|&byte| byte != 0);
        Ok(bytes)
    }

    /// The value of a parameter that is no list.
    pub(crate) fn value(&self, name: &[u8]) -> Option<Vec<u8>> {
        let environment = &self.environment;
        match name {
            b"#" => Some(environment.positional.len().to_string().into_bytes()),
            b"?" => Some(environment.status.to_string().into_bytes()),
            // One number for every run: nothing else is running that it could clash with.
            b"$" => Some(b"4242".to_vec()),
            b"!" => None,
            b"0" => Some(environment.name.clone()),
            b"-" => {
                let options = environment.options;
                let mut out = Vec::new();
                for (flag, set) in [
                    (b'e', options.errexit),
                    (b'f', options.noglob),
                    (b'u', options.nounset),
                    (b'x', options.xtrace),
                    (b'v', options.verbose),
                    (b'a', options.allexport),
                ] {
                    if set {
                        out.push(flag);
                    }
                }
                Some(out)
            }
            _ if name.first().is_some_and(u8::is_ascii_digit) => {
                let index: usize = std::str::from_utf8(name).ok()?.parse().ok()?;
                environment.positional.get(index.checked_sub(1)?).cloned()
            }
            _ => environment.variables.get(name).map(<[u8]>::to_vec),
        }
    }

    fn parameter(&mut self, parameter: &Parameter, mode: Mode, out: &mut Vec<Segment>) -> Run<()> {
        let name = parameter.name.as_slice();
        let is_list = matches!(name, b"@" | b"*");
        let value = if is_list {
            let positional = self.environment.positional.clone();
            (!positional.is_empty()).then(|| positional.join(&b' '))
        } else {
            self.value(name)
        };
        let missing = |colon: bool| value.as_ref().is_none_or(|value| colon && value.is_empty());
        match &parameter.operation {
            Operation::Value => self.push_value(name, value, mode, out),
            Operation::Length => {
                if is_list {
                    let count = self.environment.positional.len();
                    out.push(expanded(count.to_string().into_bytes(), mode));
                    return Ok(());
                }
                self.check_set(name, value.is_some())?;
                let length = value.map_or(0, |value| value.len());
                out.push(expanded(length.to_string().into_bytes(), mode));
                Ok(())
            }
            Operation::Default { word, colon } => {
                if missing(*colon) {
                    self.alternative(word, mode, out)
                } else {
                    self.push_value(name, value, mode, out)
                }
            }
            Operation::Alternative { word, colon } => {
                if missing(*colon) {
                    Ok(())
                } else {
                    self.alternative(word, mode, out)
                }
            }
            Operation::Assign { word, colon } => {
                if !missing(*colon) {
                    return self.push_value(name, value, mode, out);
                }
                if !is_name(name) {
                    self.complain(b"sh", "bad variable name")?;
                    return Err(Stop::Exit(2));
                }
                let mut segments = Vec::new();
                self.alternative(word, mode, &mut segments)?;
                let value = fields::join(&segments, b" ").bytes();
                self.assign(name, &value)?;
                out.push(expanded(value, mode));
                Ok(())
            }
            Operation::Require { word, colon } => {
                if !missing(*colon) {
                    return self.push_value(name, value, mode, out);
                }
                let mut message = self.expand_joined(word)?;
                if message.is_empty() {
                    message = b"parameter not set".to_vec();
                }
                self.complain(name, message)?;
                Err(Stop::Exit(if self.environment.dialect == Dialect::Bash {
                    127
                } else {
                    2
                }))
            }
            Operation::Trim {
                word,
                suffix,
                longest,
            } => {
                self.check_set(name, value.is_some() || is_list)?;
                let pattern = self.expand_pattern(word)?;
                let value = value.unwrap_or_default();
                let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
                self.files.budget.step(size.saturating_mul(size))?;
                out.push(expanded(trim(&value, &pattern, *suffix, *longest), mode));
                Ok(())
            }
        }
    }

    /// The word of `${name-word}` and its kin.
    fn alternative(&mut self, word: &Word, mode: Mode, out: &mut Vec<Segment>) -> Run<()> {
        let mode = Mode {
            literal_splits: true,
            ..mode
        };
        let before = out.len();
        self.parts(&word.0, mode, true, out)?;
        if mode.quoted && out.len() == before {
            out.push(expanded(Vec::new(), mode));
        }
        Ok(())
    }

    fn check_set(&mut self, name: &[u8], set: bool) -> Run<()> {
        if set || !self.environment.options.nounset {
            return Ok(());
        }
        self.complain(name, "parameter not set")?;
        Err(Stop::Exit(if self.environment.dialect == Dialect::Bash {
            1
        } else {
            2
        }))
    }

    fn push_value(
        &mut self,
        name: &[u8],
        value: Option<Vec<u8>>,
        mode: Mode,
        out: &mut Vec<Segment>,
    ) -> Run<()> {
        match name {
            b"@" | b"*" => {
                let positional = self.environment.positional.clone();
                if name == b"*" && mode.quoted {
                    let ifs = self.ifs();
                    let separator: &[u8] = ifs.get(..1).unwrap_or_default();
                    out.push(expanded(positional.join(separator), mode));
                    return Ok(());
                }
                for (index, value) in positional.iter().enumerate() {
                    if index > 0 {
                        out.push(Segment::Break);
                    }
                    out.push(expanded(value.clone(), mode));
                }
                Ok(())
            }
            _ => {
                self.check_set(name, value.is_some())?;
                let value = value.unwrap_or_default();
                self.files.budget.bytes_of(&value)?;
                out.push(expanded(value, mode));
                Ok(())
            }
        }
    }
}

/// Whether `part` is `$@`, which makes no field without parameters.
fn is_at(part: &Part) -> bool {
    matches!(part, Part::Parameter(parameter)
        if parameter.name == b"@" && matches!(parameter.operation, Operation::Value))
}

fn expanded(bytes: Vec<u8>, mode: Mode) -> Segment {
    Segment::Text {
        bytes,
        quoted: mode.quoted,
        split: !mode.quoted,
    }
}

fn trim(value: &[u8], pattern: &Pattern, suffix: bool, longest: bool) -> Vec<u8> {
    let length = value.len();
    let sizes: Box<dyn Iterator<Item = usize>> = if longest {
        Box::new((0..=length).rev())
    } else {
        Box::new(0..=length)
    };
    for size in sizes {
        let (candidate, rest) = if suffix {
            let at = length.saturating_sub(size);
            (value.get(at..), value.get(..at))
        } else {
            (value.get(..size), value.get(size..))
        };
        if let (Some(candidate), Some(rest)) = (candidate, rest)
            && pattern.matches(candidate)
        {
            return rest.to_vec();
        }
    }
    value.to_vec()
}

/// bash expands `{a,b}` and `{1..9}`, which POSIX does not know.
fn refuse_braces(word: &Word) -> Run<()> {
    let literals = word.0.iter().filter_map(|part| match part {
        Part::Literal(bytes) => Some(bytes),
        _ => None,
    });
    let joined: Vec<u8> = literals.flatten().copied().collect();
    let Some(open) = joined.iter().position(|&byte| byte == b'{') else {
        return Ok(());
    };
    let rest = joined.get(open..).unwrap_or_default();
    if rest.contains(&b'}') && (rest.contains(&b',') || rest.windows(2).any(|two| two == b"..")) {
        return Err(Stop::defer(Reason::Syntax, "brace expansion is not POSIX"));
    }
    Ok(())
}
