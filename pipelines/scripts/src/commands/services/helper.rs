//! `deb-systemd-helper`.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::unit::{self, Link};
use crate::commands::name;
use crate::commands::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

struct Helper {
    instance: &'static str,
    enabled: &'static str,
    masked: &'static str,
    purge: bool,
}

pub(crate) fn deb_systemd_helper(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut user = false;
    let mut operands = Vec::new();
    for word in words.get(1..).unwrap_or_default() {
        match word.as_slice() {
            b"--quiet" | b"--" => {}
            b"--user" => user = true,
            b"--system" => user = false,
            word if word.starts_with(b"-") => {
                return shell.usage(b"deb-systemd-helper", "the option is not interpreted");
            }
            word => operands.push(word.to_vec()),
        }
    }
    let Some((action, units)) = operands.split_first() else {
        return Ok(0);
    };
    let mut action = action.clone();
    let mut helper = if user {
        Helper {
            instance: "user",
            enabled: "/var/lib/systemd/deb-systemd-user-helper-enabled",
            masked: "/var/lib/systemd/deb-systemd-user-helper-masked",
            purge: false,
        }
    } else {
        Helper {
            instance: "system",
            enabled: "/var/lib/systemd/deb-systemd-helper-enabled",
            masked: "/var/lib/systemd/deb-systemd-helper-masked",
            purge: false,
        }
    };
    if action == b"purge" {
        helper.purge = true;
        action = b"disable".to_vec();
    }
    let purging = shell
        .environment
        .variables
        .get(b"_DEB_SYSTEMD_HELPER_PURGE");
    helper.purge |= purging == Some(b"1");
    let asks = matches!(
        action.as_slice(),
        b"is-enabled" | b"was-enabled" | b"debian-installed"
    );
    let mut status = i32::from(asks);
    for name in units {
        let path = unit::find(shell, helper.instance, name)?;
        let done = match action.as_slice() {
            b"is-enabled" => {
                let mut visited = Vec::new();
                match unit::links(shell, helper.instance, &path, &mut visited)? {
                    Ok(links) => {
                        let mut all = true;
                        for link in links {
                            all &= unit::is_link(shell, &link.at)?;
                        }
                        if all {
                            status = 0;
                        }
                        Ok(())
                    }
                    Err(errno) => Err(errno),
                }
            }
            b"was-enabled" => {
                let mut all = true;
                for entry in helper.entries(shell, name)? {
                    all &= unit::is_link(shell, &entry)?;
                }
                if all {
                    status = 0;
                }
                Ok(())
            }
            b"debian-installed" => {
                if shell.files.is_file(&helper.state_path(name))? {
                    status = 0;
                }
                Ok(())
            }
            b"update-state" => helper.update_state(shell, name, &path)?,
            b"enable" => helper.enable(shell, name, &path)?,
            b"reenable" => {
                helper.remove_links(shell, &path)?;
                helper.make_links(shell, name, &path, true)?
            }
            b"disable" => {
                helper.remove_links(shell, &path)?;
                for folder in [
                    "/var/lib/systemd/deb-systemd-helper-enabled",
                    "/var/lib/systemd/deb-systemd-user-helper-enabled",
                ] {
                    prune(shell, folder.as_bytes())?;
                }
                for folder in ["/etc/systemd/system", "/etc/systemd/user"] {
                    prune_below(shell, folder.as_bytes())?;
                }
                Ok(())
            }
            b"mask" => {
                helper.mask(shell, &path)?;
                Ok(())
            }
            b"unmask" => {
                helper.unmask(shell, &path)?;
                for folder in [
                    "/var/lib/systemd/deb-systemd-helper-masked",
                    "/var/lib/systemd/deb-systemd-user-helper-masked",
                ] {
                    prune(shell, folder.as_bytes())?;
                }
                Ok(())
            }
            _ => return shell.usage(b"deb-systemd-helper", "the action is not interpreted"),
        };
        if done.is_err() {
            let text = format!("error: unable to read {}", String::from_utf8_lossy(&path));
            shell.complain(b"/usr/bin/deb-systemd-helper", text)?;
            return Ok(1);
        }
    }
    Ok(status)
}

/// Removes a folder and the folders in it as far as they are empty.
fn prune(shell: &mut Shell<'_>, folder: &[u8]) -> Run<()> {
    shell.deeper(|shell| {
        prune_below(shell, folder)?;
        // What is not empty, or no folder, stays.
        let _ = shell.files.remove_directory(folder)?;
        Ok(())
    })
}

fn prune_below(shell: &mut Shell<'_>, folder: &[u8]) -> Run<()> {
    for name in shell.files.list(folder)?.unwrap_or_default() {
        if name.starts_with(b".") {
            continue;
        }
        let path = [folder, b"/", &name].concat();
        if shell.files.is_directory(&path)? {
            prune(shell, &path)?;
        }
    }
    Ok(())
}

type Done = Run<Result<(), crate::files::Errno>>;

impl Helper {
    fn state_path(&self, unit: &[u8]) -> Vec<u8> {
        [
            self.enabled.as_bytes(),
            b"/",
            name::base(unit),
            b".dsh-also",
        ]
        .concat()
    }

    fn entries(&self, shell: &mut Shell<'_>, unit: &[u8]) -> Run<Vec<Vec<u8>>> {
        let text = shell
            .files
            .read(&self.state_path(unit))?
            .unwrap_or_default();
        Ok(lines(&text).map(<[u8]>::to_vec).collect())
    }

    /// Where the state of a link below `/etc/systemd` is kept.
    fn state_of(&self, link: &[u8], folder: &str) -> Vec<u8> {
        let etc = format!("/etc/systemd/{}/", self.instance);
        match link.strip_prefix(etc.as_bytes()) {
            Some(rest) => [folder.as_bytes(), b"/", rest].concat(),
            None => link.to_vec(),
        }
    }

    fn write_state(&self, shell: &mut Shell<'_>, path: &[u8], text: Vec<u8>) -> Run<()> {
        unit::make_folder(shell, path)?;
        match shell.files.replace(path, text, 0o644, (0, 0))? {
            Ok(()) => Ok(()),
            Err(errno) => shell.usage(
                b"deb-systemd-helper",
                format!("cannot write its state: {errno}"),
            ),
        }
    }

    fn touch(&self, shell: &mut Shell<'_>, path: &[u8]) -> Run<()> {
        unit::make_folder(shell, path)?;
        match shell.files.open_for_writing(path, false)? {
            Ok(_) => Ok(()),
            Err(errno) => shell.usage(
                b"deb-systemd-helper",
                format!("cannot write its state: {errno}"),
            ),
        }
    }

    fn make_link(&self, shell: &mut Shell<'_>, link: &Link) -> Run<()> {
        unit::make_folder(shell, &link.at)?;
        match shell.files.make_symlink(&link.target, &link.at)? {
            Ok(()) => Ok(()),
            Err(errno) => shell.usage(
                b"deb-systemd-helper",
                format!("cannot make a link: {errno}"),
            ),
        }
    }

    fn enable(&self, shell: &mut Shell<'_>, unit: &[u8], path: &[u8]) -> Done {
        let mut has_systemctl = false;
        for program in ["/bin/systemctl", "/usr/bin/systemctl"] {
            has_systemctl = has_systemctl || shell.files.is_file(program.as_bytes())?;
        }
        if !has_systemctl {
            return self.make_links(shell, unit, path, true);
        }
        let mut create = false;
        if shell.files.is_file(&self.state_path(unit))? {
            let mut visited = Vec::new();
            match unit::links(shell, self.instance, path, &mut visited)? {
                Ok(links) => {
                    for link in links {
                        create = create || unit::is_link(shell, &link.at)?;
                    }
                }
                Err(errno) => return Ok(Err(errno)),
            }
        } else if unit::is_preset(shell, self.instance, unit)? {
            // "systemctl preset --preset-mode=enable-only"
            if let Err(errno) = super::systemctl::enable(shell, self.instance, path)? {
                return Ok(Err(errno));
            }
        }
        self.make_links(shell, unit, path, create)
    }

    fn make_links(&self, shell: &mut Shell<'_>, unit: &[u8], path: &[u8], create: bool) -> Done {
        let mut visited = Vec::new();
        let links = match unit::links(shell, self.instance, path, &mut visited)? {
            Ok(links) => links,
            Err(errno) => return Ok(Err(errno)),
        };
        for link in links {
            let state = self.state_path(unit);
            let mut text = shell.files.read(&state)?.unwrap_or_default();
            if !lines(&text).any(|line| line == link.at) {
                text.extend_from_slice(&link.at);
                text.push(b'\n');
            }
            self.write_state(shell, &state, text)?;
            let mark = self.state_of(&link.at, self.enabled);
            if shell.files.exists(&mark, Follow::Links)? {
                continue;
            }
            if create && !unit::is_link(shell, &link.at)? {
                self.make_link(shell, &link)?;
            }
            self.touch(shell, &mark)?;
        }
        Ok(Ok(()))
    }

    fn update_state(&self, shell: &mut Shell<'_>, unit: &[u8], path: &[u8]) -> Done {
        let mut visited = Vec::new();
        let links = match unit::links(shell, self.instance, path, &mut visited)? {
            Ok(links) => links,
            Err(errno) => return Ok(Err(errno)),
        };
        let mut text = Vec::new();
        for link in links {
            text.extend_from_slice(&link.at);
            text.push(b'\n');
        }
        let state = self.state_path(unit);
        self.write_state(shell, &state, text)?;
        Ok(Ok(()))
    }

    fn remove_links(&self, shell: &mut Shell<'_>, path: &[u8]) -> Run<()> {
        shell.deeper(|shell| {
            let entries = self.entries(shell, path)?;
            if self.purge {
                let _ = shell.files.unlink(&self.state_path(path))?;
            }
            for entry in entries {
                let is_link = unit::is_link(shell, &entry)?;
                if self.purge || is_link {
                    let _ = shell.files.unlink(&self.state_of(&entry, self.enabled))?;
                }
                if is_link {
                    let _ = shell.files.unlink(&entry)?;
                }
            }
            let text = shell.files.read(path)?.unwrap_or_default();
            for other in unit::also(&text) {
                let found = unit::find(shell, self.instance, &other)?;
                self.remove_links(shell, &found)?;
            }
            Ok(())
        })
    }

    fn mask_link(&self, path: &[u8]) -> Vec<u8> {
        let etc = format!("/etc/systemd/{}/", self.instance);
        [etc.as_bytes(), name::base(path)].concat()
    }

    fn mask(&self, shell: &mut Shell<'_>, path: &[u8]) -> Run<()> {
        let link = self.mask_link(path);
        if shell.files.exists(&link, Follow::Links)? {
            return Ok(());
        }
        unit::make_folder(shell, &link)?;
        let _ = shell.files.unlink(&link)?;
        let mask = Link {
            at: link.clone(),
            target: b"/dev/null".to_vec(),
        };
        self.make_link(shell, &mask)?;
        self.touch(shell, &self.state_of(&link, self.masked))
    }

    fn unmask(&self, shell: &mut Shell<'_>, path: &[u8]) -> Run<()> {
        let link = self.mask_link(path);
        if !shell.files.exists(&link, Follow::Links)? {
            return Ok(());
        }
        let is_mask = shell
            .files
            .look(&link, Follow::No)?
            .is_some_and(|found| found.node == DraftNode::Symlink(b"/dev/null".to_vec()));
        let mark = self.state_of(&link, self.masked);
        if is_mask && shell.files.exists(&mark, Follow::Links)? {
            let _ = shell.files.unlink(&link)?;
            let _ = shell.files.unlink(&mark)?;
        }
        Ok(())
    }
}
