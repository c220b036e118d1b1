//! `a2enmod`, `a2dismod`, `a2enconf`, `a2disconf`, `a2ensite` and `a2dissite`: links in Apache's folders, and notes of who
//! made them.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use crate::call::Reason;
use crate::shell::Shell;
use crate::stop::Run;

const CONFIGURATION: &str = "/etc/apache2";
const STATE: &str = "/var/lib/apache2";
/// Modules that depend on modules, at most.
const MAX_DEPTH: usize = 20;

/// What is switched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Module,
    Settings,
    Site,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Module => "mods",
            Self::Settings => "conf",
            Self::Site => "sites",
        }
    }

    fn suffix(self) -> &'static str {
        if self == Self::Module {
            ".load"
        } else {
            ".conf"
        }
    }

    /// Its word in messages and in the folder of notes.
    fn word(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Settings => "conf",
            Self::Site => "site",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Module => "Module",
            Self::Settings => "Conf",
            Self::Site => "Site",
        }
    }
}

/// One call.
struct Switch {
    program: &'static str,
    kind: Kind,
    enable: bool,
    quiet: bool,
    force: bool,
    /// On behalf of a package, not of the administrator.
    maintainer: bool,
    purge: bool,
    /// Something changed that a running server would have to hear of.
    changed: bool,
}

/// What stands where a link should.
enum Link {
    Right,
    Missing,
    Wrong(String),
}

const PROGRAMS: &[(&str, Kind, bool)] = &[
    ("a2enmod", Kind::Module, true),
    ("a2dismod", Kind::Module, false),
    ("a2enconf", Kind::Settings, true),
    ("a2disconf", Kind::Settings, false),
    ("a2ensite", Kind::Site, true),
    ("a2dissite", Kind::Site, false),
];

/// Enables or disables what is named, as the program's own name says.
pub(crate) fn switch(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let name = words.first().map(Vec::as_slice).unwrap_or_default();
    let name = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let Some(&(program, kind, enable)) = PROGRAMS
        .iter()
        .find(|(known, _, _)| known.as_bytes() == name)
    else {
        return shell.usage(b"a2enmod", "the name of the call is not interpreted");
    };
    let mut switch = Switch {
        program,
        kind,
        enable,
        quiet: false,
        force: false,
        maintainer: false,
        purge: false,
        changed: false,
    };
    let mut names = Vec::new();
    for word in words.iter().skip(1) {
        match word.as_slice() {
            b"--quiet" => switch.quiet = true,
            b"--force" => switch.force = true,
            b"--maintmode" => switch.maintainer = true,
            b"--purge" => switch.purge = true,
            [b'-', letters @ ..] if !letters.is_empty() && !letters.starts_with(b"-") => {
                for letter in letters {
                    match letter {
                        b'q' => switch.quiet = true,
                        b'f' => switch.force = true,
                        b'm' => switch.maintainer = true,
                        b'p' => switch.purge = true,
                        _ => {
                            return shell
                                .usage(program.as_bytes(), "the option is not interpreted");
                        }
                    }
                }
            }
            word => {
                let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-+".contains(byte);
                let name = word.strip_suffix(kind.suffix().as_bytes()).unwrap_or(word);
                match std::str::from_utf8(name) {
                    Ok(name) if !name.is_empty() && name.bytes().all(|byte| plain(&byte)) => {
                        names.push(name.to_owned());
                    }
                    _ => return shell.usage(program.as_bytes(), "a pattern is not interpreted"),
                }
            }
        }
    }
    if names.is_empty() {
        return shell.refuse(
            Reason::Question,
            program.as_bytes(),
            "asks which ones are meant",
        );
    }
    switch.check_places(shell)?;
    let mut status = 0;
    for name in names {
        if !switch.act(shell, &name, 0)? {
            status = 1;
        }
    }
    if switch.changed && !switch.quiet {
        let verb = if kind == Kind::Module {
            "restart"
        } else {
            "reload"
        };
        let text = format!(
            "To activate the new configuration, you need to run:\n  systemctl {verb} apache2\n"
        );
        shell.out(text.as_bytes())?;
    }
    Ok(status)
}

impl Switch {
    /// Refuses a server whose folders are elsewhere.
    fn check_places(&self, shell: &mut Shell<'_>) -> Run<()> {
        let settings = format!("{CONFIGURATION}/envvars");
        let text = shell.files.read(settings.as_bytes())?.unwrap_or_default();
        let moved = text.split(|&byte| byte == b'\n').any(|line| {
            let line = line.trim_ascii();
            let line = line.strip_prefix(b"export ").unwrap_or(line);
            [
                &b"APACHE_CONFDIR="[..],
                b"APACHE_MODS_",
                b"APACHE_CONF_",
                b"APACHE_SITES_",
                b"APACHE_STATE_",
            ]
            .iter()
            .any(|name| line.starts_with(name))
        });
        if moved {
            return shell.usage(self.program.as_bytes(), "its folders are elsewhere");
        }
        Ok(())
    }

    /// The path of a file in one of its folders.
    fn place(&self, state: &str, name: &str, suffix: &str) -> String {
        format!(
            "{CONFIGURATION}/{}-{state}/{name}{suffix}",
            self.kind.folder()
        )
    }

    fn say(&self, shell: &mut Shell<'_>, text: &str) -> Run<()> {
        if self.quiet {
            return Ok(());
        }
        shell.out(format!("{text}\n").as_bytes())
    }

    fn error(&self, shell: &mut Shell<'_>, text: &str) -> Run<()> {
        shell.err(format!("ERROR: {text}\n").as_bytes())
    }

    /// Enables or disables one; whether that succeeded.
    fn act(&mut self, shell: &mut Shell<'_>, name: &str, depth: usize) -> Run<bool> {
        if depth > MAX_DEPTH {
            return shell.usage(
                self.program.as_bytes(),
                "modules depend on each other in a circle",
            );
        }
        if self.kind == Kind::Module && name == "cache_disk" {
            return shell.usage(
                self.program.as_bytes(),
                "a service of its own belongs to it",
            );
        }
        if self.kind == Kind::Module && self.enable && name == "cgi" && self.is_threaded(shell)? {
            shell.out(b"Your MPM seems to be threaded. Selecting cgid instead of cgi.\n")?;
            return self.act(shell, "cgid", depth.saturating_add(1));
        }
        let suffix = self.kind.suffix();
        let target = self.place("available", name, suffix);
        let link = self.place("enabled", name, suffix);
        if !shell.files.exists(target.as_bytes(), Follow::Links)? {
            return self.without_target(shell, name, &link);
        }
        let settings = match self.kind {
            Kind::Module => {
                let target = self.place("available", name, ".conf");
                shell
                    .files
                    .exists(target.as_bytes(), Follow::Links)?
                    .then(|| (target, self.place("enabled", name, ".conf")))
            }
            _ => None,
        };
        if !self.relations_hold(shell, name, &target, depth)? {
            return Ok(false);
        }
        if self.enable {
            self.enable(shell, name, (&target, &link), settings)
        } else {
            self.disable(shell, name, &link, settings)
        }
    }

    /// There is nothing to link to.
    fn without_target(&mut self, shell: &mut Shell<'_>, name: &str, link: &str) -> Run<bool> {
        let dangling = |shell: &mut Shell<'_>, link: &str| -> Run<bool> {
            Ok(shell.files.exists(link.as_bytes(), Follow::No)?
                && !shell.files.exists(link.as_bytes(), Follow::Links)?)
        };
        if dangling(shell, link)? {
            if self.enable {
                self.error(shell, &format!("{link} is a dangling symlink!"))?;
            } else {
                let settings = self.place("enabled", name, ".conf");
                for link in [link, &settings] {
                    if dangling(shell, link)? {
                        self.say(shell, &format!("removing dangling symlink {link}"))?;
                        self.unlink(shell, link)?;
                    }
                }
                return Ok(true);
            }
        }
        if self.purge {
            self.note(shell, name)?;
            return Ok(true);
        }
        let title = self.kind.title();
        self.error(shell, &format!("{title} {name} does not exist!"))?;
        Ok(false)
    }

    /// What it depends on is enabled, what depends on it is disabled, and what conflicts with it is not there.
    fn relations_hold(
        &mut self,
        shell: &mut Shell<'_>,
        name: &str,
        target: &str,
        depth: usize,
    ) -> Run<bool> {
        let next = depth.saturating_add(1);
        match (self.kind, self.enable) {
            (Kind::Module, true) => {
                for other in relations(shell, target, "Depends")? {
                    self.say(
                        shell,
                        &format!("Considering dependency {other} for {name}:"),
                    )?;
                    if !self.act(shell, &other, next)? {
                        let text =
                            format!("Could not enable dependency {other} for {name}, aborting");
                        self.error(shell, &text)?;
                        return Ok(false);
                    }
                }
                let mut free = true;
                for other in relations(shell, target, "Conflicts")? {
                    self.say(shell, &format!("Considering conflict {other} for {name}:"))?;
                    let target = self.place("available", &other, ".load");
                    let link = self.place("enabled", &other, ".load");
                    if let Link::Right = self.link(shell, &target, &link)? {
                        let text = format!(
                            "Module {other} is enabled - cannot proceed due to conflicts. It needs to be disabled first!"
                        );
                        self.error(shell, &text)?;
                        free = false;
                    }
                }
                Ok(free)
            }
            (Kind::Module, false) => {
                let folder = format!("{CONFIGURATION}/mods-enabled");
                let mut depending = Vec::new();
                for file in shell.files.list(folder.as_bytes())?.unwrap_or_default() {
                    let Some(other) = String::from_utf8(file)
                        .ok()
                        .and_then(|file| Some(file.strip_suffix(".load")?.to_owned()))
                    else {
                        continue;
                    };
                    let file = self.place("enabled", &other, ".load");
                    if relations(shell, &file, "Depends")?
                        .iter()
                        .any(|on| on == name)
                    {
                        depending.push(other);
                    }
                }
                if !depending.is_empty() && !self.force {
                    let text = format!(
                        "The following modules depend on {name} and need to be disabled first: {}",
                        depending.join(" ")
                    );
                    self.error(shell, &text)?;
                    return Ok(false);
                }
                for other in depending {
                    self.say(
                        shell,
                        &format!("Considering dependency {other} for {name}:"),
                    )?;
                    if !self.act(shell, &other, next)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (_, true) => {
                for other in relations(shell, target, "Depends")? {
                    self.say(shell, &format!("Checking dependency {other} for {name}:"))?;
                    let module = format!("{CONFIGURATION}/mods-enabled/{other}.load");
                    if !shell.files.exists(module.as_bytes(), Follow::Links)? {
                        let text = format!(
                            "WARNING: Module {other} is not enabled, but {name} depends on it, aborting\n"
                        );
                        shell.err(text.as_bytes())?;
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (_, false) => Ok(true),
        }
    }

    fn enable(
        &mut self,
        shell: &mut Shell<'_>,
        name: &str,
        (target, link): (&str, &str),
        settings: Option<(String, String)>,
    ) -> Run<bool> {
        let title = self.kind.title();
        let standing = self.link(shell, target, link)?;
        if let Link::Wrong(why) = standing {
            self.error(
                shell,
                &format!("{title} {name} not properly enabled: {why}"),
            )?;
            return Ok(false);
        }
        let is_enabled = matches!(standing, Link::Right);
        if let Some((target, link)) = settings {
            match self.link(shell, &target, &link)? {
                Link::Right => {}
                Link::Missing => {
                    if is_enabled {
                        shell.out(format!("Enabling config file {name}.conf.\n").as_bytes())?;
                    }
                    self.add(shell, &target, &link)?;
                    if is_enabled {
                        return Ok(true);
                    }
                }
                Link::Wrong(why) => {
                    let text = format!("Config file {name}.conf not properly enabled: {why}");
                    self.error(shell, &text)?;
                    return Ok(false);
                }
            }
        }
        if is_enabled {
            self.say(shell, &format!("{title} {name} already enabled"))?;
            return Ok(true);
        }
        shell.out(format!("Enabling {} {name}.\n", self.kind.word()).as_bytes())?;
        if self.kind == Kind::Module && name == "ssl" {
            let text = "See /usr/share/doc/apache2/README.Debian.gz on how to configure SSL and create self-signed certificates.";
            self.say(shell, text)?;
        }
        self.add(shell, target, link)?;
        self.note(shell, name)?;
        Ok(true)
    }

    fn disable(
        &mut self,
        shell: &mut Shell<'_>,
        name: &str,
        link: &str,
        settings: Option<(String, String)>,
    ) -> Run<bool> {
        /// What a server does not start without.
        const ESSENTIAL: &[&str] = &[
            "alias",
            "auth_basic",
            "authn_file",
            "authz_host",
            "authz_user",
            "autoindex",
            "deflate",
            "dir",
            "env",
            "filter",
            "logio",
            "mime",
            "negotiation",
            "setenvif",
            "unixd",
            "version",
            "watchdog",
        ];
        let settings = match settings {
            Some((_, link)) if shell.files.exists(link.as_bytes(), Follow::Links)? => Some(link),
            _ => None,
        };
        if shell.files.exists(link.as_bytes(), Follow::No)? {
            if self.kind == Kind::Module && ESSENTIAL.contains(&name) && !self.force {
                return shell.refuse(
                    Reason::Question,
                    self.program.as_bytes(),
                    "asks whether an essential module is to go",
                );
            }
            self.remove(shell, link)?;
            if let Some(link) = settings {
                self.remove(shell, &link)?;
            }
            self.note(shell, name)?;
            let text = format!("{} {name} disabled.\n", self.kind.title());
            shell.out(text.as_bytes())?;
        } else if let Some(link) = settings {
            shell.out(format!("Disabling stale config file {name}.conf.\n").as_bytes())?;
            self.remove(shell, &link)?;
        } else {
            self.say(
                shell,
                &format!("{} {name} already disabled", self.kind.title()),
            )?;
            if self.purge {
                self.note(shell, name)?;
            }
        }
        Ok(true)
    }

    /// What stands at `link`, which should lead to `target`; one that leads nowhere is taken away.
    fn link(&mut self, shell: &mut Shell<'_>, target: &str, link: &str) -> Run<Link> {
        let Some(standing) = shell.files.look(link.as_bytes(), Follow::No)? else {
            return Ok(Link::Missing);
        };
        let Some(end) = shell.files.look(link.as_bytes(), Follow::Links)? else {
            self.say(shell, &format!("Removing dangling link {link}"))?;
            self.unlink(shell, link)?;
            return Ok(Link::Missing);
        };
        if !matches!(standing.node, DraftNode::Symlink(_)) {
            return Ok(Link::Wrong(format!(
                "{link} is a real file, not touching it"
            )));
        }
        let wanted = shell.files.look(target.as_bytes(), Follow::Links)?;
        if wanted.is_none_or(|wanted| wanted.path != end.path) {
            return Ok(Link::Wrong(format!(
                "{link} exists but does not point to {target}, not touching it"
            )));
        }
        Ok(Link::Right)
    }

    fn add(&mut self, shell: &mut Shell<'_>, target: &str, link: &str) -> Run<()> {
        let inside = target.strip_prefix(CONFIGURATION).unwrap_or(target);
        let relative = format!("..{inside}");
        if shell
            .files
            .make_symlink(relative.as_bytes(), link.as_bytes())?
            .is_err()
        {
            return shell.usage(self.program.as_bytes(), "a link cannot be made");
        }
        self.changed = true;
        Ok(())
    }

    fn remove(&mut self, shell: &mut Shell<'_>, link: &str) -> Run<()> {
        let standing = shell.files.look(link.as_bytes(), Follow::No)?;
        match standing.map(|standing| standing.node) {
            Some(DraftNode::Symlink(_)) => self.unlink(shell, link)?,
            Some(_) => {
                let text = format!("{link} is not a symbolic link, not deleting");
                return self.error(shell, &text);
            }
            None => {}
        }
        self.changed = true;
        Ok(())
    }

    fn unlink(&self, shell: &mut Shell<'_>, path: &str) -> Run<()> {
        match shell.files.unlink(path.as_bytes())? {
            Ok(()) => Ok(()),
            Err(_) => shell.usage(self.program.as_bytes(), "a file cannot be removed"),
        }
    }

    /// Notes who did it, and forgets who did something before.
    fn note(&self, shell: &mut Shell<'_>, name: &str) -> Run<()> {
        let state = format!("{STATE}/{}", self.kind.word());
        let done = if self.enable { "enabled" } else { "disabled" };
        let who = if self.maintainer { "maint" } else { "admin" };
        let folder = format!("{state}/{done}_by_{who}");
        for path in [STATE, &state, &folder] {
            if !shell.files.is_directory(path.as_bytes())?
                && shell.files.make_directory(path.as_bytes(), 0o777)?.is_err()
            {
                return shell.usage(self.program.as_bytes(), "a folder cannot be made");
            }
        }
        for known in shell.files.list(state.as_bytes())?.unwrap_or_default() {
            let old = [state.as_bytes(), b"/", &known, b"/", name.as_bytes()].concat();
            if shell.files.is_file(&old)? && shell.files.unlink(&old)?.is_err() {
                return shell.usage(self.program.as_bytes(), "a note cannot be removed");
            }
        }
        let note = format!("{folder}/{name}");
        if !self.purge && shell.files.write(note.as_bytes(), Vec::new())?.is_err() {
            return shell.usage(self.program.as_bytes(), "a note cannot be made");
        }
        Ok(())
    }

    /// Whether the engine that is enabled has threads.
    fn is_threaded(&self, shell: &mut Shell<'_>) -> Run<bool> {
        for (engine, threaded) in [("prefork", false), ("worker", true), ("event", true)] {
            let link = format!("{CONFIGURATION}/mods-enabled/mpm_{engine}.load");
            if shell.files.exists(link.as_bytes(), Follow::Links)? {
                return Ok(threaded);
            }
        }
        shell.usage(self.program.as_bytes(), "no engine is enabled")
    }
}

/// `apache2ctl configtest`, as `apache2_reload` of Debian's helper asks it: whether a running server may be told to read its
/// settings anew. None runs, so the answer leads to a reload that is not needed. Anything else asks the server's program.
pub(crate) fn apache2ctl(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let is_reload = shell
        .environment
        .functions
        .contains_key(&b"apache2_reload"[..]);
    match words {
        [_, verb] if verb == b"configtest" && is_reload => {
            shell.not_needed(words);
            Ok(0)
        }
        _ => shell.refuse(Reason::Command, b"apache2ctl", "asks the server's program"),
    }
}

/// The modules of a line such as `# Depends: setenvif mime`, which stands before the first setting.
fn relations(shell: &mut Shell<'_>, file: &str, field: &str) -> Run<Vec<String>> {
    let text = shell.files.read(file.as_bytes())?.unwrap_or_default();
    for line in text.split(|&byte| byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let named = line
            .strip_prefix("# ")
            .and_then(|rest| rest.strip_prefix(field)?.strip_prefix(':'))
            .filter(|rest| rest.starts_with([' ', '\t']));
        if let Some(names) = named {
            return Ok(names.split_ascii_whitespace().map(str::to_owned).collect());
        }
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            break;
        }
    }
    Ok(Vec::new())
}
