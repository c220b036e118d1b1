//! `cp`, `mv` and `ln`.

use dormouse_filesystem::Follow;
use dormouse_overlay::{Attributes, DraftNode, Drafted};

use super::arguments::{self, Arguments, Spec};
use super::name;
use crate::files::{Call, Errno, attempt, trim_slashes};
use crate::shell::Shell;
use crate::stop::Run;

/// A source and where it goes.
type Move = (Vec<u8>, Vec<u8>);

/// Where each source goes: into a directory, or to the one destination.
fn targets(shell: &mut Shell<'_>, command: &[u8], arguments: &Arguments) -> Run<Option<Vec<Move>>> {
    let mut sources = arguments.operands.clone();
    let (destination, into) = match arguments.value('t') {
        Some(folder) => (folder.to_vec(), true),
        None => {
            let Some(destination) = sources.pop() else {
                shell.complain(command, "missing file operand")?;
                return Ok(None);
            };
            let follows = !(arguments.has('n') && command == b"ln");
            let is_directory = if follows {
                shell.files.is_directory(&destination)?
            } else {
                shell
                    .files
                    .look(&destination, Follow::No)?
                    .is_some_and(|found| found.node == DraftNode::Directory)
            };
            (destination, is_directory && !arguments.has('T'))
        }
    };
    if sources.is_empty() {
        shell.complain(command, "missing destination file operand")?;
        return Ok(None);
    }
    if sources.len() > 1 && !into {
        let text = format!(
            "target '{}' is not a directory",
            String::from_utf8_lossy(&destination)
        );
        shell.complain(command, text)?;
        return Ok(None);
    }
    let mut out = Vec::new();
    for source in sources {
        let target = if into {
            let folder = trim_slashes(&destination);
            let slash: &[u8] = if folder == b"/" { b"" } else { b"/" };
            [folder, slash, name::base(&source)].concat()
        } else {
            destination.clone()
        };
        out.push((source, target));
    }
    Ok(Some(out))
}

const CP: Spec = Spec {
    short: "afpPrRdTt:uvnLHxlsiZ",
    long: &[
        ("archive", 'a'),
        ("force", 'f'),
        ("recursive", 'r'),
        ("no-dereference", 'P'),
        ("dereference", 'L'),
        ("no-target-directory", 'T'),
        ("target-directory=", 't'),
        ("update", 'u'),
        ("verbose", 'v'),
        ("no-clobber", 'n'),
        ("preserve?", 'A'),
        ("link", 'l'),
        ("symbolic-link", 's'),
        ("reflink?", 'F'),
        ("one-file-system", 'x'),
        ("parents", 'N'),
        ("remove-destination", 'D'),
    ],
    permute: true,
};

/// What `cp` keeps.
#[derive(Clone, Copy)]
struct Keep {
    mode: bool,
    owner: bool,
    time: bool,
    xattrs: bool,
}

pub(crate) fn cp(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &CP)?;
    if "lsiHN".chars().any(|letter| arguments.has(letter)) {
        return shell.usage(b"cp", "-i, -l, -s, -H and --parents are not interpreted");
    }
    let archive = arguments.has('a');
    let mut keep = Keep {
        mode: archive || arguments.has('p'),
        owner: archive || arguments.has('p'),
        time: archive || arguments.has('p'),
        xattrs: archive,
    };
    for (letter, value) in arguments.options() {
        if letter != 'A' {
            continue;
        }
        for part in value
            .unwrap_or(b"mode,ownership,timestamps")
            .split(|&byte| byte == b',')
        {
            match part {
                b"all" => {
                    keep = Keep {
                        mode: true,
                        owner: true,
                        time: true,
                        xattrs: true,
                    };
                }
                b"mode" => keep.mode = true,
                b"ownership" => keep.owner = true,
                b"timestamps" => keep.time = true,
                b"context" | b"links" | b"xattr" => {}
                _ => return shell.usage(b"cp", "--preserve names something unknown"),
            }
        }
    }
    let recursive = archive || arguments.has('r') || arguments.has('R');
    let follow = match arguments.last_of("LPda") {
        Some('L') => Follow::Links,
        Some(_) => Follow::No,
        None if recursive => Follow::No,
        None => Follow::Links,
    };
    let Some(targets) = targets(shell, b"cp", &arguments)? else {
        return Ok(1);
    };
    let mut status = 0;
    for (source, target) in targets {
        if arguments.has('n') && shell.files.exists(&target, Follow::No)? {
            continue;
        }
        if arguments.has('u') {
            let old = shell.files.look(&target, Follow::Links)?;
            let new = shell.files.look(&source, Follow::Links)?;
            if let (Some(old), Some(new)) = (old, new)
                && old.attributes.mtime >= new.attributes.mtime
            {
                continue;
            }
        }
        if arguments.has('D') && shell.files.exists(&target, Follow::No)? {
            // Fails below where a directory stands.
            let _ = shell.files.unlink(&target)?;
        }
        let copied = copy(shell, &source, &target, follow, recursive, keep)?;
        if let Err(errno) = copied {
            let text = format!(
                "cannot copy '{}' to '{}': {errno}",
                String::from_utf8_lossy(&source),
                String::from_utf8_lossy(&target)
            );
            shell.complain(b"cp", text)?;
            status = 1;
        }
    }
    Ok(status)
}

fn copy(
    shell: &mut Shell<'_>,
    source: &[u8],
    target: &[u8],
    follow: Follow,
    recursive: bool,
    keep: Keep,
) -> Call<()> {
    let found = attempt!(shell.files.find(source, follow));
    if found.node == DraftNode::Directory {
        if !recursive {
            return Ok(Err(Errno::IsDirectory));
        }
        return copy_tree(shell, source, &found, target, follow, keep);
    }
    copy_node(shell, &found, target, keep)
}

fn copy_tree(
    shell: &mut Shell<'_>,
    source: &[u8],
    top: &Drafted,
    target: &[u8],
    follow: Follow,
    keep: Keep,
) -> Call<()> {
    let top_path = top.path.clone();
    if let Ok(place) = shell.files.place(target)?
        && place.starts_with(&top_path)
    {
        return Ok(Err(Errno::Invalid));
    }
    let mut todo = vec![(source.to_vec(), target.to_vec())];
    let mut made = Vec::new();
    while let Some((from, to)) = todo.pop() {
        let found = attempt!(shell.files.find(&from, follow));
        if found.node != DraftNode::Directory {
            attempt!(copy_node(shell, &found, &to, keep));
            continue;
        }
        let there = shell.files.look(&to, Follow::Links)?;
        match there {
            Some(there) if there.node == DraftNode::Directory => {}
            Some(_) => return Ok(Err(Errno::NotDirectory)),
            None => {
                let umask = shell.files.umask;
                let mode = found.attributes.mode & 0o777 & !umask;
                attempt!(shell.files.make_directory(&to, mode));
            }
        }
        made.push((to.clone(), found.attributes.clone()));
        for name in attempt!(shell.files.list(&from)) {
            todo.push((
                [trim_slashes(&from), b"/", &name].concat(),
                [trim_slashes(&to), b"/", &name].concat(),
            ));
        }
    }
    for (path, attributes) in made.into_iter().rev() {
        if let Some(found) = shell.files.look(&path, Follow::Links)? {
            preserve(shell, &found, &attributes, keep)?;
        }
    }
    Ok(Ok(()))
}

fn preserve(shell: &mut Shell<'_>, to: &Drafted, from: &Attributes, keep: Keep) -> Run<()> {
    shell.files.change(&to.path, |attributes| {
        if keep.owner {
            (attributes.uid, attributes.gid) = (from.uid, from.gid);
        }
        if keep.mode {
            attributes.mode = from.mode;
        }
        if keep.time {
            attributes.mtime = from.mtime;
        }
        if keep.xattrs {
            attributes.xattrs = from.xattrs.clone();
        }
    })
}

/// Copies what is no directory.
fn copy_node(shell: &mut Shell<'_>, found: &Drafted, target: &[u8], keep: Keep) -> Call<()> {
    match &found.node {
        DraftNode::Symlink(link) => {
            match shell.files.find(target, Follow::No)? {
                Ok(standing) if standing.node == DraftNode::Directory => {
                    return Ok(Err(Errno::IsDirectory));
                }
                Ok(_) => attempt!(shell.files.unlink(target)),
                Err(Errno::NoEntry) => {}
                Err(errno) => return Ok(Err(errno)),
            }
            attempt!(shell.files.make_symlink(link, target));
        }
        DraftNode::File(content) => {
            let content = content.clone();
            shell.files.budget.step(1)?;
            let standing = shell.files.look(target, Follow::Links)?;
            let place = match standing {
                Some(standing) if standing.identity == found.identity => {
                    return Ok(Err(Errno::Exists));
                }
                Some(standing) if standing.node == DraftNode::Directory => {
                    return Ok(Err(Errno::IsDirectory));
                }
                Some(standing) => {
                    shell.files.set_content(&standing.path, content)?;
                    standing.path
                }
                None => {
                    if target.ends_with(b"/") {
                        return Ok(Err(Errno::NotDirectory));
                    }
                    if shell.files.exists(target, Follow::No)? {
                        // A dangling link is not written through.
                        return Ok(Err(Errno::NoEntry));
                    }
                    let place = attempt!(shell.files.place(target));
                    let mode = found.attributes.mode & 0o777 & !shell.files.umask;
                    shell.files.put(&place, DraftNode::File(content), mode)?;
                    place
                }
            };
            let placed = attempt!(shell.files.find(place.as_bytes(), Follow::No));
            preserve(shell, &placed, &found.attributes, keep)?;
            return Ok(Ok(()));
        }
        _ => {
            // Also /dev/null: an empty file.
            let bytes = attempt!(shell.files.read(found.path.as_bytes()));
            attempt!(shell.files.write(target, bytes));
            return Ok(Ok(()));
        }
    }
    let placed = attempt!(shell.files.find(target, Follow::No));
    preserve(
        shell,
        &placed,
        &found.attributes,
        Keep {
            mode: false,
            ..keep
        },
    )?;
    Ok(Ok(()))
}

const MV: Spec = Spec {
    short: "fnTt:vuiZ",
    long: &[
        ("force", 'f'),
        ("no-clobber", 'n'),
        ("no-target-directory", 'T'),
        ("target-directory=", 't'),
        ("verbose", 'v'),
        ("update", 'u'),
    ],
    permute: true,
};

pub(crate) fn mv(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &MV)?;
    if arguments.last_of("fni") == Some('i') || arguments.has('u') {
        return shell.usage(b"mv", "-i and -u are not interpreted");
    }
    let no_clobber = arguments.last_of("fn") == Some('n');
    let Some(targets) = targets(shell, b"mv", &arguments)? else {
        return Ok(1);
    };
    let mut status = 0;
    for (source, target) in targets {
        if no_clobber && shell.files.exists(&target, Follow::No)? {
            continue;
        }
        let moved = rename(shell, &source, &target)?;
        if let Err(errno) = moved {
            let text = format!(
                "cannot move '{}' to '{}': {errno}",
                String::from_utf8_lossy(&source),
                String::from_utf8_lossy(&target)
            );
            shell.complain(b"mv", text)?;
            status = 1;
        }
    }
    Ok(status)
}

fn rename(shell: &mut Shell<'_>, source: &[u8], target: &[u8]) -> Call<()> {
    let from = attempt!(shell.files.find(source, Follow::No));
    if target.ends_with(b"/") && from.node != DraftNode::Directory {
        return Ok(Err(Errno::NotDirectory));
    }
    if let Some(standing) = shell.files.look(trim_slashes(target), Follow::No)? {
        if standing.path == from.path {
            return Ok(Err(Errno::Exists));
        }
        if standing.identity == from.identity && standing.node != DraftNode::Directory {
            // Two names of one file: mv removes the first.
            return shell.files.unlink(source);
        }
    }
    shell.files.rename(source, target)
}

const LN: Spec = Spec {
    short: "sfnTt:vrib",
    long: &[
        ("symbolic", 's'),
        ("force", 'f'),
        ("no-dereference", 'n'),
        ("no-target-directory", 'T'),
        ("target-directory=", 't'),
        ("verbose", 'v'),
        ("relative", 'r'),
    ],
    permute: true,
};

pub(crate) fn ln(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut arguments = arguments::read(shell, words, &LN)?;
    if "ibr".chars().any(|letter| arguments.has(letter)) {
        return shell.usage(b"ln", "-b, -i and -r are not interpreted");
    }
    if arguments.operands.len() == 1 && !arguments.has('t') {
        arguments.operands.push(b".".to_vec());
    }
    let Some(targets) = targets(shell, b"ln", &arguments)? else {
        return Ok(1);
    };
    let mut status = 0;
    for (source, target) in targets {
        let made = link(shell, &source, &target, &arguments)?;
        if let Err(errno) = made {
            let text = format!(
                "failed to create link '{}': {errno}",
                String::from_utf8_lossy(&target)
            );
            shell.complain(b"ln", text)?;
            status = 1;
        }
    }
    Ok(status)
}

fn link(shell: &mut Shell<'_>, source: &[u8], target: &[u8], arguments: &Arguments) -> Call<()> {
    let standing = shell.files.look(target, Follow::No)?;
    if let Some(standing) = standing {
        if !arguments.has('f') {
            return Ok(Err(Errno::Exists));
        }
        if standing.node == DraftNode::Directory {
            return Ok(Err(Errno::IsDirectory));
        }
        if !arguments.has('s') {
            let found = attempt!(shell.files.find(source, Follow::No));
            if found.identity == standing.identity {
                return Ok(if found.path == standing.path {
                    Err(Errno::Exists)
                } else {
                    Ok(())
                });
            }
        }
        attempt!(shell.files.unlink(target));
    }
    if arguments.has('s') {
        if source.is_empty() {
            return Ok(Err(Errno::NoEntry));
        }
        shell.files.make_symlink(source, target)
    } else {
        shell.files.make_link(source, target)
    }
}
