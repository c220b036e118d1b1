//! The commands of debconf's protocol (debconf-devel(7)), as the confmodule's functions `db_get`, `db_set` and so on.

use super::database::Item;
use super::{Session, load_templates};
use crate::call::Reason;
use crate::commands::Command;
use crate::shell::Shell;
use crate::stop::Run;

const COMMANDS: &[(&str, Command)] = &[
    ("db_beginblock", okay),
    ("db_capb", capabilities),
    ("db_clear", clear),
    ("db_endblock", okay),
    ("db_fget", get_flag),
    ("db_fset", set_flag),
    ("db_get", get),
    ("db_go", go),
    ("db_info", okay),
    ("db_input", input),
    ("db_metaget", get_meta),
    ("db_progress", okay),
    ("db_purge", purge),
    ("db_register", register),
    ("db_reset", reset),
    ("db_set", set),
    ("db_settitle", okay),
    ("db_stop", stop),
    ("db_subst", substitute),
    ("db_text", input),
    ("db_title", okay),
    ("db_unregister", unregister),
    ("db_version", version),
    ("db_x_loadtemplatefile", load_templates),
];

/// The function `name` that the confmodule defines.
pub(crate) fn find(name: &[u8]) -> Option<Command> {
    COMMANDS
        .iter()
        .find(|(known, _)| known.as_bytes() == name)
        .map(|&(_, command)| command)
}

/// The words after the command, as debconf splits them.
pub(super) fn words_of(words: &[Vec<u8>]) -> Vec<String> {
    let line = words.get(1..).unwrap_or_default().join(&b' ');
    String::from_utf8_lossy(&line)
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect()
}

pub(super) fn answer(shell: &mut Shell<'_>, status: i32, value: &str) -> Run<i32> {
    shell.assign(b"RET", value.as_bytes())?;
    Ok(status)
}

fn okay(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    answer(shell, 0, "")
}

fn missing(shell: &mut Shell<'_>, name: &str) -> Run<i32> {
    let text = format!("{name} doesn't exist");
    answer(shell, 10, &text)
}

fn version(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    match words_of(words).first() {
        Some(version) if version.split('.').next() != Some("2") => {
            answer(shell, 30, "Version too low")
        }
        _ => answer(shell, 0, "2.1"),
    }
}

fn capabilities(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    shell.debconf.escapes = words_of(words).iter().any(|word| word == "escape");
    answer(shell, 0, "multiselect escape")
}

fn clear(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    shell.debconf.busy.clear();
    answer(shell, 0, "")
}

fn stop(_: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    Ok(0)
}

impl Session {
    fn template_of(&self, question: &str) -> Option<&Item> {
        let template = self.config.get(question)?.field("template")?;
        self.templates.get(template)
    }

    /// A question's value: its own, else its template's default.
    fn value(&self, question: &str) -> Option<String> {
        let own = self.config.get(question)?.field("value").map(str::to_owned);
        own.or_else(|| {
            self.template_of(question)?
                .field("default")
                .map(str::to_owned)
        })
    }

    fn kind(&self, question: &str) -> String {
        self.template_of(question)
            .and_then(|template| template.field("type"))
            .unwrap_or_default()
            .to_owned()
    }

    fn expanded(&self, question: &str, text: &str) -> String {
        let mut out = text.to_owned();
        if let Some(item) = self.config.get(question) {
            for (name, value) in &item.variables {
                out = out.replace(&format!("${{{name}}}"), value);
            }
        }
        out
    }
}

fn get(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let Some(name) = words.first() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    if shell.debconf.config.get(name).is_none() {
        return missing(shell, name);
    }
    let value = shell.debconf.value(name).unwrap_or_default();
    if value.contains('\n') && !shell.debconf.escapes {
        return shell.refuse(Reason::Question, b"debconf", "an answer has several lines");
    }
    answer(shell, 0, &value)
}

fn set(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let Some((name, value)) = words.split_first() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    let value = value.join(" ");
    match shell
        .debconf
        .config
        .change(name, |item| item.set_field("value", &value))
    {
        true => answer(shell, 0, "value set"),
        false => missing(shell, name),
    }
}

fn reset(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let name = words.first().cloned().unwrap_or_default();
    let default = shell
        .debconf
        .template_of(&name)
        .and_then(|template| template.field("default"))
        .map(str::to_owned);
    let known = shell.debconf.config.change(&name, |item| {
        item.set_field("value", default.as_deref().unwrap_or_default());
        item.flags.remove("seen");
    });
    if known {
        answer(shell, 0, "")
    } else {
        missing(shell, &name)
    }
}

fn get_flag(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let [name, flag] = words.as_slice() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    match shell
        .debconf
        .config
        .get(name)
        .map(|item| item.flags.contains(flag.as_str()))
    {
        Some(true) => answer(shell, 0, "true"),
        Some(false) => answer(shell, 0, "false"),
        None => missing(shell, name),
    }
}

fn set_flag(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let [name, flag, value] = words.as_slice() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    let on = value == "true";
    let known = shell.debconf.config.change(name, |item| {
        if on {
            item.flags.insert(flag.clone());
        } else {
            item.flags.remove(flag);
        }
    });
    if known {
        answer(shell, 0, if on { "true" } else { "false" })
    } else {
        missing(shell, name)
    }
}

fn get_meta(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let [name, field] = words.as_slice() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    if shell.debconf.config.get(name).is_none() {
        return missing(shell, name);
    }
    let field = field.to_ascii_lowercase();
    let own = shell
        .debconf
        .config
        .get(name)
        .and_then(|item| item.field(&field));
    let text = own
        .or_else(|| shell.debconf.template_of(name)?.field(&field))
        .map(str::to_owned);
    match text {
        Some(text) if !text.contains('\n') => {
            let text = shell.debconf.expanded(name, &text);
            answer(shell, 0, &text)
        }
        Some(_) => shell.refuse(Reason::Question, b"debconf", "a field has several lines"),
        None => answer(shell, 10, "the field does not exist"),
    }
}

fn substitute(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let [name, variable, value @ ..] = words.as_slice() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    let value = value.join(" ");
    let known = shell.debconf.config.change(name, |item| {
        item.variables.insert(variable.clone(), value.clone());
    });
    if known {
        answer(shell, 0, "")
    } else {
        missing(shell, name)
    }
}

fn rank(priority: &str) -> Option<u8> {
    ["low", "medium", "high", "critical"]
        .iter()
        .position(|known| *known == priority)
        .and_then(|at| u8::try_from(at).ok())
}

fn input(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let [priority, name] = words.as_slice() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    let Some(item) = shell.debconf.config.get(name) else {
        return missing(shell, name);
    };
    let seen = item.flags.contains("seen");
    let Some(rank_here) = rank(priority) else {
        return answer(shell, 20, "not a valid priority");
    };
    let asked_from = shell
        .debconf
        .value("debconf/priority")
        .and_then(|priority| rank(&priority))
        .unwrap_or(2);
    let kind = shell.debconf.kind(name);
    if kind == "error" && !seen {
        return shell.refuse(
            Reason::Question,
            b"debconf",
            format!("{name} tells an error to nobody"),
        );
    }
    let plain = matches!(
        kind.as_str(),
        "string" | "boolean" | "select" | "multiselect" | "password"
    );
    if plain && rank_here >= asked_from && !seen && shell.debconf.value(name).is_none() {
        return shell.refuse(
            Reason::Question,
            b"debconf",
            format!("{name} has no answer"),
        );
    }
    if kind == "password" {
        return shell.refuse(
            Reason::Question,
            b"debconf",
            format!("{name} is a password"),
        );
    }
    shell.debconf.busy.push(name.clone());
    // The noninteractive frontend shows nothing.
    answer(shell, 30, "question skipped")
}

fn go(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    for name in std::mem::take(&mut shell.debconf.busy) {
        let kind = shell.debconf.kind(&name);
        let current = shell.debconf.value(&name).unwrap_or_default();
        let value = match kind.as_str() {
            "text" | "error" | "title" => String::new(),
            "select" => {
                let choices = shell
                    .debconf
                    .template_of(&name)
                    .and_then(|template| template.field("choices"))
                    .unwrap_or_default()
                    .to_owned();
                let choices = shell.debconf.expanded(&name, &choices);
                if choices.contains('\\') {
                    return shell.refuse(
                        Reason::Question,
                        b"debconf",
                        format!("{name} has escaped choices"),
                    );
                }
                let mut choices = choices
                    .split(',')
                    .map(str::trim)
                    .filter(|choice| !choice.is_empty());
                let first = choices.clone().next().unwrap_or_default().to_owned();
                if choices.any(|choice| choice == current) {
                    current
                } else {
                    first
                }
            }
            _ => current,
        };
        shell
            .debconf
            .config
            .change(&name, |item| item.set_field("value", &value));
    }
    answer(shell, 0, "ok")
}

fn register(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let [template, name] = words.as_slice() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    let Session {
        config,
        templates,
        owner,
        ..
    } = &mut shell.debconf;
    let kind = templates.get(template).map(|item| item.field("type"));
    let (Some(_), Some(kind)) = (config.get(template), kind) else {
        return missing(shell, template);
    };
    config.add_owner(name, owner, kind == Some("password"));
    config.change(name, |item| item.set_field("template", template));
    templates.add_owner(template, name, false);
    answer(shell, 0, "")
}

fn unregister(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let name = words.first().cloned().unwrap_or_default();
    if shell.debconf.config.get(&name).is_none() {
        return missing(shell, &name);
    }
    shell.debconf.remove_owner(&name);
    answer(shell, 0, "")
}

fn purge(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    for name in shell.debconf.config.names() {
        shell.debconf.remove_owner(&name);
    }
    answer(shell, 0, "")
}

impl Session {
    /// Takes the package off a question's owners; a question of nobody goes, and so does a template of no question.
    fn remove_owner(&mut self, question: &str) {
        let template = self
            .config
            .get(question)
            .and_then(|item| item.field("template"))
            .map(str::to_owned);
        if self.config.remove_owner(question, &self.owner)
            && let Some(template) = template
        {
            self.templates.remove_owner(&template, question);
        }
    }
}
