//! Simple commands: assignments, builtins, functions, interpreted commands and guest scripts.

use std::collections::BTreeMap;
use std::rc::Rc;

use dormouse_filesystem::NodeKind;

use super::variables::{Variable, Variables};
use super::{Environment, Options, Shell, builtins};
use crate::call::Reason;
use crate::commands;
use crate::stop::{Run, Stop};
use crate::syntax::{Assignment, Command, Dialect, Redirection, Word, is_name, is_name_byte};

/// Where a command's name leads.
pub(crate) enum Target {
    /// A file of the guest at this path.
    File(Vec<u8>),
    /// A file that may not be executed.
    NotExecutable,
    Missing,
}

impl Shell<'_> {
    pub(crate) fn simple(
        &mut self,
        assignments: &[Assignment],
        words: &[Word],
        redirections: &[Redirection],
    ) -> Run<i32> {
        self.substituted = None;
        let mut arguments: Vec<Vec<u8>> = Vec::new();
        for word in words {
            // Assignments given to these builtins are not split.
            let declares = matches!(
                arguments.first().map(Vec::as_slice),
                Some(b"export" | b"readonly" | b"local")
            );
            match declares.then(|| declaration(word)).flatten() {
                Some(()) => {
                    let value = self.expand_assigned(word)?;
                    arguments.push(value);
                }
                None => self.expand_into(word, &mut arguments)?,
            }
        }
        let Some(name) = arguments.first().cloned() else {
            return self.without_command(assignments, redirections);
        };
        if name == b"exec" && arguments.len() == 1 {
            for assignment in assignments {
                self.assign_word(assignment)?;
            }
            if !self.redirect(redirections)? {
                return Err(Stop::Exit(2));
            }
            return Ok(0);
        }
        let special = builtins::is_special(&name);
        let function = if special {
            None
        } else {
            self.environment.functions.get(&name).cloned()
        };
        let status = self.redirected(redirections, |shell| {
            if special && shell.environment.dialect == Dialect::Posix {
                for assignment in assignments {
                    shell.assign_word(assignment)?;
                }
                return shell.invoke(&arguments, None);
            }
            let mut before: Vec<(Vec<u8>, Option<Variable>)> = Vec::new();
            for assignment in assignments {
                let known = shell
                    .environment
                    .variables
                    .variable(&assignment.name)
                    .cloned();
                before.push((assignment.name.clone(), known));
                shell.assign_word(assignment)?;
                shell.environment.variables.entry(&assignment.name).exported = true;
            }
            let result = shell.invoke(&arguments, function);
            for (name, variable) in before.into_iter().rev() {
                shell.environment.variables.restore(&name, variable);
            }
            result
        })?;
        match status {
            Some(status) => Ok(status),
            None if special => Err(Stop::Exit(2)),
            None => Ok(2),
        }
    }

    fn without_command(
        &mut self,
        assignments: &[Assignment],
        redirections: &[Redirection],
    ) -> Run<i32> {
        for assignment in assignments {
            self.assign_word(assignment)?;
        }
        let status = self.redirected(redirections, |shell| Ok(shell.substituted.unwrap_or(0)))?;
        Ok(status.unwrap_or(2))
    }

    fn assign_word(&mut self, assignment: &Assignment) -> Run<()> {
        let mut value = self.expand_assigned(&assignment.value)?;
        if assignment.append
            && let Some(before) = self.environment.variables.get(&assignment.name)
        {
            value = [before, &value].concat();
        }
        self.assign(&assignment.name, &value)
    }

    /// Sets a variable; a read-only one ends the shell.
    pub(crate) fn assign(&mut self, name: &[u8], value: &[u8]) -> Run<()> {
        self.files.budget.bytes_of(value)?;
        if self.environment.variables.is_readonly(name) {
            self.complain(name, "is read only")?;
            return Err(Stop::Exit(if self.environment.dialect == Dialect::Bash {
                1
            } else {
                2
            }));
        }
        let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
        self.files.budget.object(size)?;
        if name == b"OPTIND" {
            self.environment.getopts_offset = 0;
        }
        self.environment.variables.set(name, value);
        if self.environment.options.allexport {
            self.environment.variables.entry(name).exported = true;
        }
        Ok(())
    }

    /// Runs a command whose words are expanded.
    pub(crate) fn invoke(
        &mut self,
        arguments: &[Vec<u8>],
        function: Option<Rc<Command>>,
    ) -> Run<i32> {
        let Some(name) = arguments.first() else {
            return Ok(0);
        };
        if let Some(function) = function {
            return self.deeper(|shell| shell.call_function(&function, arguments));
        }
        if let Some(builtin) = builtins::find_for(name, self.environment.dialect) {
            return builtin(self, arguments);
        }
        if self.debconf.is_active()
            && let Some(command) = commands::debconf::find(name)
        {
            return command(self, arguments);
        }
        self.execute(arguments)
    }

    fn call_function(&mut self, function: &Command, arguments: &[Vec<u8>]) -> Run<i32> {
        let positional = Rc::new(arguments.get(1..).unwrap_or_default().to_vec());
        let before = std::mem::replace(&mut self.environment.positional, positional);
        let loops = std::mem::take(&mut self.environment.loops);
        self.environment.variables.push_frame();
        self.environment.in_function = self.environment.in_function.saturating_add(1);
        let result = self.command(function);
        self.environment.in_function = self.environment.in_function.saturating_sub(1);
        self.environment.variables.pop_frame();
        self.environment.loops = loops;
        self.environment.positional = before;
        match result {
            Err(Stop::Return(status)) => Ok(status),
            Err(Stop::Break(_) | Stop::Continue(_)) => Ok(0),
            result => result,
        }
    }

    /// Where `name` leads in the guest, by `PATH` unless it has a slash.
    pub(crate) fn locate(&mut self, name: &[u8]) -> Run<Target> {
        if name.contains(&b'/') {
            return self.executable(name);
        }
        let path = self
            .environment
            .variables
            .get(b"PATH")
            .unwrap_or_default()
            .to_vec();
        let mut found = Target::Missing;
        for folder in path.split(|&byte| byte == b':') {
            let folder: &[u8] = if folder.is_empty() { b"." } else { folder };
            let candidate = [folder, b"/", name].concat();
            match self.executable(&candidate)? {
                Target::Missing => {}
                Target::NotExecutable => found = Target::NotExecutable,
                target => return Ok(target),
            }
        }
        Ok(found)
    }

    fn executable(&mut self, path: &[u8]) -> Run<Target> {
        let found = self.files.look(path, dormouse_filesystem::Follow::Links)?;
        Ok(match found {
            Some(found) if found.node.kind() == NodeKind::File => {
                if found.attributes.mode & 0o111 != 0 {
                    Target::File(path.to_vec())
                } else {
                    Target::NotExecutable
                }
            }
            Some(_) => Target::NotExecutable,
            None => Target::Missing,
        })
    }

    /// Runs a command that is no builtin and no function.
    pub(crate) fn execute(&mut self, arguments: &[Vec<u8>]) -> Run<i32> {
        let Some(name) = arguments.first() else {
            return Ok(0);
        };
        if name.is_empty() {
            self.complain(b"sh", ": not found")?;
            return Ok(127);
        }
        if self.files.user.is_some()
            && !matches!(
                name.as_slice(),
                b"test" | b"[" | b"true" | b"false" | b"echo" | b"printf"
            )
        {
            return self.usage(name, "is called as another user");
        }
        let path = match self.locate(name)? {
            Target::File(path) => path,
            Target::NotExecutable => {
                self.complain(name, "Permission denied")?;
                return Ok(126);
            }
            Target::Missing => {
                self.complain(name, "not found")?;
                return Ok(127);
            }
        };
        let base = path
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default()
            .to_vec();
        let text = String::from_utf8_lossy(&base).into_owned();
        let folder = path
            .get(..path.len().saturating_sub(base.len()))
            .unwrap_or_default();
        let is_system = matches!(
            folder,
            b"/usr/bin/"
                | b"/bin/"
                | b"/usr/sbin/"
                | b"/sbin/"
                | b"/lib/systemd/"
                | b"/usr/lib/systemd/"
                | b"/usr/share/postgresql-common/"
        ) || (folder.starts_with(b"/usr/lib/postgresql/")
            && base == b"pg_controldata");
        if is_system && let Some(command) = commands::find(&base) {
            if self.record.commands.len() < 1000 {
                self.record.commands.insert(text);
            }
            return self.native(command, &base, arguments);
        }
        let content = match self.files.read(&path) {
            Ok(Ok(content)) => content,
            Ok(Err(_)) => Vec::new(),
            Err(Stop::Deferred(deferral)) if deferral.reason == Reason::Limit => Vec::new(),
            Err(stop) => return Err(stop),
        };
        match crate::interpreter_of(&content) {
            Ok((dialect, options)) => {
                if self.record.commands.len() < 1000 {
                    self.record.commands.insert(text);
                }
                self.deeper(|shell| {
                    shell.guest_script(&path, &content, arguments, dialect, &options)
                })
            }
            Err(why) => {
                let why = match why {
                    Some(interpreter) => format!("is written for {interpreter}"),
                    None => "is a program that is not interpreted".to_owned(),
                };
                self.refuse(Reason::Command, &base, why)
            }
        }
    }

    fn native(
        &mut self,
        command: commands::Command,
        base: &[u8],
        arguments: &[Vec<u8>],
    ) -> Run<i32> {
        self.files
            .budget
            .step(u64::try_from(arguments.len()).unwrap_or(u64::MAX))?;
        let mut renamed = arguments.to_vec();
        if let Some(first) = renamed.first_mut() {
            *first = base.to_vec();
        }
        self.deeper(|shell| match command(shell, &renamed) {
            Err(Stop::Deferred(mut deferral)) => {
                if deferral.command.is_none() {
                    deferral.command = Some(String::from_utf8_lossy(base).into_owned());
                }
                Err(Stop::Deferred(deferral))
            }
            result => result,
        })
    }

    /// Interprets a shell script of the guest as a command.
    pub(crate) fn guest_script(
        &mut self,
        path: &[u8],
        content: &[u8],
        arguments: &[Vec<u8>],
        dialect: Dialect,
        options: &[u8],
    ) -> Run<i32> {
        let mut variables = Variables::default();
        for (name, value) in self.environment.variables.exported() {
            variables.set_exported(name, value);
        }
        variables.set(b"IFS", b" \t\n");
        variables.set(b"OPTIND", b"1");
        let inner = Environment {
            variables,
            functions: Rc::new(BTreeMap::new()),
            positional: Rc::new(arguments.get(1..).unwrap_or_default().to_vec()),
            name: path.to_vec(),
            options: Options::default(),
            streams: self.environment.streams.clone(),
            exit_trap: None,
            status: 0,
            dialect,
            loops: 0,
            in_function: 0,
            foreign: self.environment.foreign.saturating_add(1),
            getopts_offset: 0,
        };
        let base = String::from_utf8_lossy(path).into_owned();
        let debconf = self.debconf.enter_script();
        let result = self.subshell(|shell| {
            shell.environment = inner;
            shell.tested = false;
            builtins::set_flags(shell, options, true);
            let list = shell.parse(content)?;
            shell.list(&list)
        });
        self.debconf.leave_script(debconf);
        result.map_err(|stop| match stop {
            Stop::Deferred(mut deferral) => {
                if deferral.command.is_none() {
                    deferral.command = Some(base);
                }
                Stop::Deferred(deferral)
            }
            stop => stop,
        })
    }
}

/// Whether a word is `name=...`, the name unquoted.
fn declaration(word: &Word) -> Option<()> {
    let crate::syntax::Part::Literal(first) = word.0.first()? else {
        return None;
    };
    let length = first.iter().position(|&byte| !is_name_byte(byte))?;
    (first.get(length) == Some(&b'=') && is_name(first.get(..length)?)).then_some(())
}
