//! Lists, pipelines and compound commands.

use std::rc::Rc;

use super::{Shell, streams};
use crate::call::Reason;
use crate::stop::{Run, Stop};
use crate::syntax::{self, Command, Connector, Item, Kind, List, Pipeline, Word};

impl Shell<'_> {
    /// Evaluates `text` as `eval` does.
    pub(crate) fn evaluate(&mut self, text: &[u8]) -> Run<i32> {
        let list = self.parse(text)?;
        if list.0.is_empty() {
            return Ok(0);
        }
        self.deeper(|shell| shell.list(&list))
    }

    /// Reads `text` as shell commands.
    pub(crate) fn parse(&mut self, text: &[u8]) -> Run<Rc<List>> {
        self.files.budget.bytes_of(text)?;
        let dialect = self.environment.dialect;
        if let Some(list) = self.world.read.find(dialect, text) {
            return Ok(list);
        }
        match syntax::parse(text, dialect, 1, 0) {
            Ok(list) => {
                let list = Rc::new(list);
                self.world.read.keep(dialect, text, &list);
                Ok(list)
            }
            Err(error) => Err(Stop::Deferred(Box::new(crate::Deferral {
                reason: if error.too_deep {
                    Reason::Limit
                } else {
                    Reason::Syntax
                },
                why: error.why,
                command: None,
                line: (self.line == 0).then_some(error.line),
            }))),
        }
    }

    pub(crate) fn list(&mut self, list: &List) -> Run<i32> {
        let mut status = 0;
        for item in &list.0 {
            status = self.item(item)?;
        }
        Ok(status)
    }

    /// A list whose status is tested.
    fn condition(&mut self, list: &List) -> Run<i32> {
        self.with_tested(|shell| shell.list(list))
    }

    fn with_tested(&mut self, inner: impl FnOnce(&mut Self) -> Run<i32>) -> Run<i32> {
        let before = std::mem::replace(&mut self.tested, true);
        let result = inner(self);
        self.tested = before;
        result
    }

    fn item(&mut self, item: &Item) -> Run<i32> {
        if item.background {
            return Err(Stop::defer(
                Reason::Usage,
                "runs a command in the background",
            ));
        }
        let Some(last) = item.rest.len().checked_sub(1) else {
            return self.pipeline(&item.first);
        };
        let mut status = self.with_tested(|shell| shell.pipeline(&item.first))?;
        for (index, (connector, pipeline)) in item.rest.iter().enumerate() {
            if (status == 0) != (*connector == Connector::And) {
                continue;
            }
            status = if index == last {
                self.pipeline(pipeline)?
            } else {
                self.with_tested(|shell| shell.pipeline(pipeline))?
            };
        }
        Ok(status)
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Run<i32> {
        if pipeline.negated {
            let status = self.with_tested(|shell| shell.stages(&pipeline.commands))?;
            self.environment.status = i32::from(status == 0);
        } else {
            self.stages(&pipeline.commands)?;
        }
        Ok(self.environment.status)
    }

    fn stages(&mut self, commands: &[Command]) -> Run<i32> {
        let (last, earlier) = match commands {
            [] => return Ok(0),
            [only] => return self.command(only),
            [earlier @ .., last] => (last, earlier),
        };
        let mut input = None;
        let mut worst = 0;
        for command in earlier {
            let fed = input.take();
            let (status, output) = self.captured(|shell| {
                shell.subshell(|shell| {
                    if let Some(fed) = fed {
                        shell.environment.streams.insert(0, fed);
                    }
                    shell.command(command)
                })
            })?;
            if status != 0 {
                worst = status;
            }
            input = Some(streams::input(output));
        }
        let status = self.subshell(|shell| {
            if let Some(fed) = input {
                shell.environment.streams.insert(0, fed);
            }
            shell.command(last)
        })?;
        let status = if status == 0 && self.environment.options.pipefail {
            worst
        } else {
            status
        };
        self.ended(status)
    }

    /// Takes note of the status of a command that `set -e` looks at.
    fn ended(&mut self, status: i32) -> Run<i32> {
        self.environment.status = status;
        if status != 0 && self.environment.options.errexit && !self.tested {
            return Err(Stop::Exit(status));
        }
        Ok(status)
    }

    pub(crate) fn command(&mut self, command: &Command) -> Run<i32> {
        self.files.budget.step(1)?;
        if self.environment.foreign == 0 {
            self.line = command.line;
        }
        self.deeper(|shell| shell.command_here(command))
    }

    fn command_here(&mut self, command: &Command) -> Run<i32> {
        if let Kind::Simple { assignments, words } = &command.kind {
            let status = self.simple(assignments, words, &command.redirections)?;
            return self.ended(status);
        }
        if let Kind::Function { name, body } = &command.kind {
            Rc::make_mut(&mut self.environment.functions).insert(name.clone(), body.clone());
            self.environment.status = 0;
            return Ok(0);
        }
        let status = self.redirected(&command.redirections, |shell| {
            let status = shell.compound(&command.kind)?;
            shell.environment.status = status;
            Ok(status)
        })?;
        match status {
            None => self.ended(2),
            Some(status) if matches!(command.kind, Kind::Subshell(_)) => self.ended(status),
            Some(status) => Ok(status),
        }
    }

    fn compound(&mut self, kind: &Kind) -> Run<i32> {
        match kind {
            Kind::Simple { .. } | Kind::Function { .. } => Ok(0),
            Kind::Group(list) => self.list(list),
            Kind::Subshell(list) => self.subshell(|shell| shell.list(list)),
            Kind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.condition(condition)? == 0 {
                        return self.list(body);
                    }
                }
                match otherwise {
                    Some(body) => self.list(body),
                    None => Ok(0),
                }
            }
            Kind::Loop {
                until,
                condition,
                body,
            } => self.looped(|shell| {
                let mut status = 0;
                loop {
                    shell.files.budget.step(1)?;
                    match shell.condition(condition) {
                        Ok(result) if (result == 0) == *until => return Ok(status),
                        Ok(_) => {}
                        Err(stop) => {
                            if shell.loop_stops(stop)? {
                                return Ok(0);
                            }
                            continue;
                        }
                    }
                    match shell.list(body) {
                        Ok(result) => status = result,
                        Err(stop) => {
                            status = 0;
                            if shell.loop_stops(stop)? {
                                return Ok(0);
                            }
                        }
                    }
                }
            }),
            Kind::For { name, words, body } => {
                let values = match words {
                    Some(words) => self.expand_fields(words)?,
                    None => self.environment.positional.to_vec(),
                };
                self.looped(|shell| {
                    let mut status = 0;
                    for value in &values {
                        shell.files.budget.step(1)?;
                        shell.assign(name, value)?;
                        match shell.list(body) {
                            Ok(result) => status = result,
                            Err(stop) => {
                                status = 0;
                                if shell.loop_stops(stop)? {
                                    return Ok(0);
                                }
                            }
                        }
                    }
                    Ok(status)
                })
            }
            Kind::Case { word, arms } => self.case(word, arms),
        }
    }

    fn looped(&mut self, inner: impl FnOnce(&mut Self) -> Run<i32>) -> Run<i32> {
        self.environment.loops = self.environment.loops.saturating_add(1);
        let result = inner(self);
        self.environment.loops = self.environment.loops.saturating_sub(1);
        result
    }

    /// Whether the current loop ends, given why its body was left; what concerns outer loops goes on outwards.
    fn loop_stops(&mut self, stop: Stop) -> Run<bool> {
        match stop {
            Stop::Break(levels) if levels > 1 => Err(Stop::Break(levels.saturating_sub(1))),
            Stop::Break(_) => Ok(true),
            Stop::Continue(levels) if levels > 1 => Err(Stop::Continue(levels.saturating_sub(1))),
            Stop::Continue(_) => Ok(false),
            stop => Err(stop),
        }
    }

    fn case(&mut self, word: &Word, arms: &[(Vec<Word>, List)]) -> Run<i32> {
        let value = self.expand_joined(word)?;
        for (patterns, body) in arms {
            for pattern in patterns {
                let pattern = self.expand_pattern(pattern)?;
                self.files
                    .budget
                    .step(u64::try_from(value.len()).unwrap_or(u64::MAX))?;
                if pattern.matches(&value) {
                    return self.list(body);
                }
            }
        }
        Ok(0)
    }
}
