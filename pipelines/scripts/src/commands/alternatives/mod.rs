//! `update-alternatives`.

mod group;

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use crate::shell::Shell;
use crate::stop::Run;
use group::{Choice, Group, Slave};

/// Where the links and the groups are.
struct Folders {
    links: Vec<u8>,
    groups: Vec<u8>,
}

#[derive(Default)]
struct Request {
    action: Vec<u8>,
    operands: Vec<Vec<u8>>,
    slaves: Vec<[Vec<u8>; 3]>,
    force: bool,
}

pub(crate) fn update_alternatives(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut folders = Folders {
        links: b"/etc/alternatives".to_vec(),
        groups: b"/var/lib/dpkg/alternatives".to_vec(),
    };
    let mut request = Request::default();
    let mut rest = words.get(1..).unwrap_or_default().iter();
    while let Some(word) = rest.next() {
        let mut take =
            |count: usize| -> Vec<Vec<u8>> { rest.by_ref().take(count).cloned().collect() };
        match word.as_slice() {
            b"--altdir" => folders.links = take(1).pop().unwrap_or_default(),
            b"--admindir" => folders.groups = take(1).pop().unwrap_or_default(),
            b"--quiet" | b"--verbose" | b"--debug" | b"--skip-auto" => {}
            b"--force" => request.force = true,
            b"--install" => {
                request.action = word.clone();
                request.operands = take(4);
            }
            b"--slave" => match <[Vec<u8>; 3]>::try_from(take(3)) {
                Ok(slave) => request.slaves.push(slave),
                Err(_) => {
                    shell.complain(
                        b"update-alternatives: error",
                        "--slave needs <link> <name> <path>",
                    )?;
                    return Ok(2);
                }
            },
            b"--set" | b"--remove" => {
                request.action = word.clone();
                request.operands = take(2);
            }
            b"--auto" | b"--query" | b"--display" | b"--list" | b"--remove-all" => {
                request.action = word.clone();
                request.operands = take(1);
            }
            _ => {
                let text = format!("{} is not interpreted", String::from_utf8_lossy(word));
                return shell.usage(b"update-alternatives", text);
            }
        }
    }
    let Some(name) = (match request.action.as_slice() {
        b"--install" => request.operands.get(1),
        _ => request.operands.first(),
    })
    .cloned()
    .filter(|name| !name.is_empty() && !name.contains(&b'/')) else {
        shell.complain(b"update-alternatives: error", "a name is missing")?;
        return Ok(2);
    };
    let path = [&folders.groups[..], b"/", &name].concat();
    let known = match shell.files.read(&path)? {
        Ok(text) => match group::parse(&name, &text) {
            Some(group) => Some(group),
            None => return shell.usage(b"update-alternatives", "the group's file is broken"),
        },
        Err(_) => None,
    };
    let current = shell
        .files
        .look(&[&folders.links[..], b"/", &name].concat(), Follow::No)?;
    let current = match current.map(|found| found.node) {
        Some(DraftNode::Symlink(target)) => Some(target),
        _ => None,
    };
    if request.action == b"--install" {
        return install(shell, &folders, &request, &name, known, current.as_deref());
    }
    let Some(mut group) = known else {
        let text = format!("no alternatives for {}", String::from_utf8_lossy(&name));
        if request.action == b"--remove" || request.action == b"--remove-all" {
            return Ok(0);
        }
        shell.complain(b"update-alternatives: error", text)?;
        return Ok(2);
    };
    match request.action.as_slice() {
        b"--list" => {
            for choice in &group.choices {
                shell.out(&[&choice.path[..], b"\n"].concat())?;
            }
            Ok(0)
        }
        b"--query" => {
            let text = group.query(current.as_deref());
            shell.out(&text)?;
            Ok(0)
        }
        b"--display" => {
            let text = group.display(current.as_deref());
            shell.out(&text)?;
            Ok(0)
        }
        b"--auto" => {
            group.manual = false;
            let best = group.best().map(|best| best.path.clone());
            update(
                shell,
                &folders,
                &mut group,
                current.as_deref(),
                best.as_deref(),
            )
        }
        b"--set" => {
            let path = request.operands.get(1).cloned().unwrap_or_default();
            if group.choice(&path).is_none() {
                let text = format!(
                    "alternative {} for {} not registered; not setting",
                    String::from_utf8_lossy(&path),
                    String::from_utf8_lossy(&name)
                );
                shell.complain(b"update-alternatives: error", text)?;
                return Ok(2);
            }
            group.manual = true;
            update(shell, &folders, &mut group, current.as_deref(), Some(&path))
        }
        b"--remove-all" => {
            group.choices.clear();
            update(shell, &folders, &mut group, current.as_deref(), None)
        }
        _ => {
            let path = request.operands.get(1).cloned().unwrap_or_default();
            notice_changes(shell, &mut group, current.as_deref())?;
            if group.manual && current.as_deref() == Some(path.as_slice()) {
                shell.complain(
                    b"update-alternatives: warning",
                    "removing manually selected alternative - switching to auto mode",
                )?;
                group.manual = false;
            }
            group.choices.retain(|choice| choice.path != path);
            let best = if group.manual {
                None
            } else {
                group.best().map(|best| best.path.clone())
            };
            update(
                shell,
                &folders,
                &mut group,
                current.as_deref(),
                best.as_deref(),
            )
        }
    }
}

/// Sees whether somebody has changed the link by hand.
fn notice_changes(shell: &mut Shell<'_>, group: &mut Group, current: Option<&[u8]>) -> Run<()> {
    let Some(current) = current else {
        return Ok(());
    };
    if group.choice(current).is_some() {
        return Ok(());
    }
    if !shell.files.exists(current, Follow::Links)? {
        shell.complain(
            b"update-alternatives: warning",
            "the link is dangling; it will be updated with best choice",
        )?;
        group.manual = false;
    } else if !group.manual {
        shell.complain(
            b"update-alternatives: warning",
            "the link has been changed (manually or by a script); switching to manual updates only",
        )?;
        group.manual = true;
    }
    Ok(())
}

fn install(
    shell: &mut Shell<'_>,
    folders: &Folders,
    request: &Request,
    name: &[u8],
    known: Option<Group>,
    current: Option<&[u8]>,
) -> Run<i32> {
    let [link, _, path, priority] = request.operands.as_slice() else {
        shell.complain(
            b"update-alternatives: error",
            "--install needs <link> <name> <path> <priority>",
        )?;
        return Ok(2);
    };
    let Some(priority) = std::str::from_utf8(priority)
        .ok()
        .and_then(|text| text.parse::<i32>().ok())
    else {
        shell.complain(b"update-alternatives: error", "priority must be an integer")?;
        return Ok(2);
    };
    for file in [link, path] {
        if !file.starts_with(b"/") {
            shell.complain(
                b"update-alternatives: error",
                "alternative path is not absolute as it should be",
            )?;
            return Ok(2);
        }
    }
    if !shell.files.exists(path, Follow::Links)? {
        let text = format!(
            "alternative path {} doesn't exist",
            String::from_utf8_lossy(path)
        );
        shell.complain(b"update-alternatives: error", text)?;
        return Ok(2);
    }
    let mut group = match known {
        Some(mut group) => {
            notice_changes(shell, &mut group, current)?;
            if group.link != *link {
                // The group moves.
                move_link(shell, folders, name, &group.link, link)?;
                group.link = link.clone();
            }
            group
        }
        None => Group {
            name: name.to_vec(),
            manual: false,
            link: link.clone(),
            slaves: Vec::new(),
            choices: Vec::new(),
        },
    };
    let mut choice = Choice {
        path: path.clone(),
        priority,
        slaves: std::collections::BTreeMap::new(),
    };
    for [slave_link, slave_name, slave_path] in &request.slaves {
        match group
            .slaves
            .iter_mut()
            .find(|slave| slave.name == *slave_name)
        {
            Some(slave) if slave.link != *slave_link => {
                let before = std::mem::replace(&mut slave.link, slave_link.clone());
                move_link(shell, folders, slave_name, &before, slave_link)?;
            }
            Some(_) => {}
            None => group.slaves.push(Slave {
                name: slave_name.clone(),
                link: slave_link.clone(),
            }),
        }
        choice.slaves.insert(slave_name.clone(), slave_path.clone());
    }
    match group
        .choices
        .iter_mut()
        .find(|known| known.path == choice.path)
    {
        Some(known) => *known = choice,
        None => group.choices.push(choice),
    }
    let wanted = if group.manual {
        None
    } else {
        group.best().map(|best| best.path.clone())
    };
    update(shell, folders, &mut group, current, wanted.as_deref())
}

/// Renames a link that leads into the folder of alternatives.
fn move_link(
    shell: &mut Shell<'_>,
    folders: &Folders,
    name: &[u8],
    from: &[u8],
    to: &[u8],
) -> Run<()> {
    let target = [&folders.links[..], b"/", name].concat();
    let standing = shell.files.look(from, Follow::No)?;
    let leads = standing.is_some_and(|found| found.node == DraftNode::Symlink(target));
    if leads && !shell.files.exists(to, Follow::No)? {
        if shell.files.rename(from, to)?.is_err() {
            return shell.usage(b"update-alternatives", "a link cannot be renamed");
        }
    } else if leads {
        let _ = shell.files.unlink(from)?;
    }
    Ok(())
}

/// Selects `wanted` if it is not selected yet, mends what is broken, and writes the group.
fn update(
    shell: &mut Shell<'_>,
    folders: &Folders,
    group: &mut Group,
    current: Option<&[u8]>,
    wanted: Option<&[u8]>,
) -> Run<i32> {
    let admin = [&folders.groups[..], b"/", &group.name].concat();
    if group.choices.is_empty() {
        let (name, link) = (group.name.clone(), group.link.clone());
        remove_link(shell, folders, &name, &link)?;
        for slave in group.slaves.clone() {
            remove_link(shell, folders, &slave.name, &slave.link)?;
        }
        let _ = shell.files.unlink(&admin)?;
        return Ok(0);
    }
    let selected = match wanted {
        Some(wanted) => Some(wanted.to_vec()),
        None => current
            .filter(|current| group.choice(current).is_some())
            .map(<[u8]>::to_vec),
    };
    // The links of the selected choice are made anew where they are not as they should be.
    if let Some(choice) = selected.and_then(|path| group.choice(&path).cloned()) {
        make_link(
            shell,
            folders,
            &group.name.clone(),
            &group.link.clone(),
            &choice.path,
        )?;
        for slave in group.slaves.clone() {
            let file = choice
                .slaves
                .get(&slave.name)
                .filter(|file| !file.is_empty());
            match file {
                Some(file) if shell.files.exists(file, Follow::Links)? => {
                    make_link(shell, folders, &slave.name, &slave.link, file)?;
                }
                other => {
                    if let Some(file) = other {
                        let text = format!(
                            "skip creation of {} because associated file {} doesn't exist",
                            String::from_utf8_lossy(&slave.link),
                            String::from_utf8_lossy(file)
                        );
                        shell.complain(b"update-alternatives: warning", text)?;
                    }
                    remove_link(shell, folders, &slave.name, &slave.link)?;
                }
            }
        }
    }
    group.tidy();
    if shell
        .files
        .replace(&admin, group.text(), 0o644, (0, 0))?
        .is_err()
    {
        return shell.usage(b"update-alternatives", "the group cannot be written");
    }
    Ok(0)
}

/// Links `link` to the folder of alternatives and from there to `file`.
fn make_link(
    shell: &mut Shell<'_>,
    folders: &Folders,
    name: &[u8],
    link: &[u8],
    file: &[u8],
) -> Run<()> {
    let middle = [&folders.links[..], b"/", name].concat();
    for (at, target) in [(middle.as_slice(), file), (link, &middle)] {
        let standing = shell.files.look(at, Follow::No)?;
        match standing.map(|found| found.node) {
            Some(DraftNode::Symlink(known)) if known == target => continue,
            Some(DraftNode::Symlink(_)) => {
                let _ = shell.files.unlink(at)?;
            }
            Some(_) => {
                let text = format!("not replacing {} with a link", String::from_utf8_lossy(at));
                shell.complain(b"update-alternatives: warning", text)?;
                continue;
            }
            None => {}
        }
        if let Err(errno) = shell.files.make_symlink(target, at)? {
            return shell.usage(
                b"update-alternatives",
                format!("cannot make a link: {errno}"),
            );
        }
    }
    Ok(())
}

fn remove_link(shell: &mut Shell<'_>, folders: &Folders, name: &[u8], link: &[u8]) -> Run<()> {
    let middle = [&folders.links[..], b"/", name].concat();
    for path in [link, &middle] {
        let is_link = shell
            .files
            .look(path, Follow::No)?
            .is_some_and(|found| matches!(found.node, DraftNode::Symlink(_)));
        if is_link {
            let _ = shell.files.unlink(path)?;
        }
    }
    Ok(())
}
