//! debconf's confmodule: questions are answered from the guest's own database, else by the template's default.

mod database;
mod questions;
mod template;

pub(crate) use questions::find;

use crate::call::Reason;
use crate::shell::Shell;
use crate::stop::{Run, Stop};
use crate::syntax::Dialect;
use database::Database;
use questions::{answer, words_of};

const CONFIG: &[u8] = b"/var/cache/debconf/config.dat";
const PASSWORDS: &[u8] = b"/var/cache/debconf/passwords.dat";
const TEMPLATES: &[u8] = b"/var/cache/debconf/templates.dat";

/// What a script that sourced the confmodule has to do with.
#[derive(Debug, Default)]
pub(crate) struct Session {
    active: bool,
    /// The frontend has been started, for this script or the one that runs it.
    running: bool,
    owner: String,
    config: Database,
    templates: Database,
    /// Questions put since the last `db_go`.
    busy: Vec<String>,
    escapes: bool,
}

impl Session {
    /// Whether the current shell has sourced the confmodule.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    pub(crate) fn enter_script(&mut self) -> bool {
        std::mem::take(&mut self.active)
    }

    pub(crate) fn leave_script(&mut self, before: bool) {
        self.active = before;
    }
}

pub(crate) fn is_confmodule(file: &[u8]) -> bool {
    matches!(
        file,
        b"/usr/share/debconf/confmodule" | b"/usr/share/debconf/confmodule.sh"
    )
}

/// `. /usr/share/debconf/confmodule`: the real one starts the script anew under a frontend, which first loads the
/// package's templates and runs its config script.
pub(crate) fn start(shell: &mut Shell<'_>) -> Run<i32> {
    if !shell.files.is_file(b"/usr/share/debconf/confmodule")? {
        shell.complain(b"sh", ".: cannot open /usr/share/debconf/confmodule")?;
        return match shell.environment.dialect {
            Dialect::Posix => Err(Stop::Exit(2)),
            Dialect::Bash => Ok(1),
        };
    }
    if let Some(fd) = shell.environment.streams.get(&2).cloned() {
        if let Some(out) = shell.environment.streams.get(&1).cloned() {
            shell.environment.streams.insert(3, out);
        }
        shell.environment.streams.insert(1, fd);
    }
    shell.debconf.active = true;
    if shell.debconf.running {
        return Ok(0);
    }
    shell.debconf.running = true;
    shell.debconf.config = load(shell, CONFIG)?;
    shell.debconf.templates = load(shell, TEMPLATES)?;
    let passwords = load(shell, PASSWORDS)?;
    shell.debconf.config.add_secrets(passwords);
    // The frontend names the owner by the script's file, the architecture included.
    let name = String::from_utf8_lossy(&shell.environment.name).into_owned();
    let file = name.rsplit('/').next().unwrap_or_default();
    let owner = file.rsplit_once('.').map_or_else(
        || shell.call.package.to_owned(),
        |(owner, _)| owner.to_owned(),
    );
    shell.debconf.owner = owner;
    let base = name
        .trim_end_matches(|c: char| c != '.' && c != '/')
        .to_owned();
    let phase = shell.call.name;
    let templates = format!("{base}templates");
    if let Ok(text) = shell.files.read(templates.as_bytes())? {
        let owner = shell.debconf.owner.clone();
        enter(shell, &text, &owner)?;
    }
    if matches!(
        phase,
        crate::ScriptName::Postinst | crate::ScriptName::Preinst
    ) {
        let config = format!("{base}config");
        if let Ok(content) = shell.files.read(config.as_bytes())? {
            let version = shell
                .environment
                .positional
                .get(1)
                .cloned()
                .unwrap_or_default();
            let Ok((dialect, options)) = crate::interpreter_of(&content) else {
                return shell.refuse(
                    Reason::Interpreter,
                    b"debconf",
                    "the config script is no shell script",
                );
            };
            let words = vec![config.clone().into_bytes(), b"configure".to_vec(), version];
            let status = shell.deeper(|shell| {
                shell.guest_script(config.as_bytes(), &content, &words, dialect, &options)
            })?;
            shell.debconf.busy.clear();
            if status > 0 {
                return Err(Stop::Exit(status));
            }
        }
    }
    Ok(0)
}

fn load(shell: &mut Shell<'_>, path: &[u8]) -> Run<Database> {
    let text = shell.files.read(path)?.unwrap_or_default();
    shell
        .files
        .budget
        .step(u64::try_from(text.len() / 64).unwrap_or(u64::MAX))?;
    match Database::parse(&text) {
        Some(database) => Ok(database),
        None => shell.refuse(
            Reason::Question,
            b"debconf",
            "the guest's database is broken",
        ),
    }
}

/// Writes what has changed, as the frontend does when the script has ended; old files are kept beside.
pub(crate) fn finish(shell: &mut Shell<'_>) -> Run<()> {
    let config = shell.debconf.config.take_changed();
    let templates = shell.debconf.templates.take_changed();
    if config.plain {
        keep_old(shell, CONFIG)?;
        let text = shell.debconf.config.text(false);
        replace(shell, CONFIG, text, 0o644)?;
    }
    // Of passwords no old file is kept.
    if config.secret {
        let text = shell.debconf.config.text(true);
        replace(shell, PASSWORDS, text, 0o600)?;
    }
    if templates.plain {
        keep_old(shell, TEMPLATES)?;
        let text = shell.debconf.templates.text(false);
        replace(shell, TEMPLATES, text, 0o644)?;
    }
    Ok(())
}

const UNWRITABLE: &str = "the database cannot be written";

fn keep_old(shell: &mut Shell<'_>, path: &[u8]) -> Run<()> {
    let old = [path, b"-old"].concat();
    if shell
        .files
        .exists(path, dormouse_filesystem::Follow::Links)?
        && shell.files.rename(path, &old)?.is_err()
    {
        return shell.usage(b"debconf", UNWRITABLE);
    }
    Ok(())
}

fn replace(shell: &mut Shell<'_>, path: &[u8], text: Vec<u8>, mode: u16) -> Run<()> {
    match shell.files.replace(path, text, mode, (0, 0))? {
        Ok(_) => Ok(()),
        Err(_) => shell.usage(b"debconf", UNWRITABLE),
    }
}

/// Enters the templates of a file.
fn enter(shell: &mut Shell<'_>, text: &[u8], owner: &str) -> Run<()> {
    let Some(templates) = template::parse(text) else {
        return shell.refuse(Reason::Question, b"debconf", "the templates are broken");
    };
    let Session {
        config,
        templates: known,
        ..
    } = &mut shell.debconf;
    for template in &templates {
        if !template::register(template, config, known, owner) {
            return shell.refuse(Reason::Question, b"debconf", "a template changes its type");
        }
    }
    Ok(())
}

fn load_templates(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words = words_of(words);
    let Some(file) = words.first() else {
        return answer(shell, 20, "Incorrect number of arguments");
    };
    let Ok(text) = shell.files.read(file.as_bytes())? else {
        return answer(shell, 10, "failed to open the file");
    };
    let owner = words
        .get(1)
        .cloned()
        .unwrap_or_else(|| shell.debconf.owner.clone());
    enter(shell, &text, &owner)?;
    answer(shell, 0, "")
}
