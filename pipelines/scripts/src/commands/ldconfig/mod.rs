//! `ldconfig`: the links that sonames need, and `/etc/ld.so.cache` as the guest's own program would write it.
//!
//! Which of its formats that is, the guest's program says: since glibc 2.33 it carries the line that it writes into the
//! cache as its generator. Of the older ones, Debian 11's is known (2.31). The auxiliary cache, which only saves the next
//! run time, is left as it is.

mod cache;
mod directories;
mod elf;

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::arguments::{self, Spec};
use crate::shell::Shell;
use crate::stop::Run;
use cache::Entry;
use directories::Directory;

const LDCONFIG: Spec = Spec {
    short: "r:vXNi",
    long: &[("verbose", 'v'), ("ignore-aux-cache", 'i')],
    permute: true,
};

/// Libraries that one run may find.
const MAX_LIBRARIES: usize = 100_000;

/// What depends on the guest's architecture and C library.
struct System {
    /// The folder of its own architecture below `/lib`.
    triplet: &'static str,
    /// The line that names the program in the cache.
    generator: Option<Vec<u8>>,
}

fn system(shell: &mut Shell<'_>) -> Run<System> {
    let triplet = match shell.world.architecture.as_str() {
        "amd64" => "x86_64-linux-gnu",
        "arm64" => "aarch64-linux-gnu",
        "i386" => "i386-linux-gnu",
        _ => return shell.usage(b"ldconfig", "the architecture's libraries are not known"),
    };
    for path in ["/sbin/ldconfig", "/usr/sbin/ldconfig"] {
        if let Ok(program) = shell.files.read(path.as_bytes())? {
            let generator = generator(&program);
            let is_known = program.windows(11).any(|part| part == b"GLIBC 2.31-");
            if generator.is_none() && !is_known {
                return shell.usage(b"ldconfig", "the cache's format is not known");
            }
            return Ok(System { triplet, generator });
        }
    }
    shell.usage(b"ldconfig", "the guest's own program is missing")
}

/// The text `ldconfig (...) ... release version N` that stands between two zero bytes of the program.
fn generator(program: &[u8]) -> Option<Vec<u8>> {
    const START: &[u8] = b"\0ldconfig (";
    let at = program
        .windows(START.len())
        .position(|part| part == START)?;
    let rest = program.get(at.checked_add(1)?..)?;
    let text = rest.split(|&byte| byte == 0).next()?;
    (text.len() < 256 && text.windows(17).any(|part| part == b" release version "))
        .then(|| text.to_vec())
}

pub(crate) fn ldconfig(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &LDCONFIG)?;
    let other_root = arguments
        .value('r')
        .is_some_and(|root| !root.iter().all(|&byte| byte == b'/'));
    if other_root || !arguments.operands.is_empty() {
        return shell.usage(
            b"ldconfig",
            "another root and given folders are not interpreted",
        );
    }
    let system = system(shell)?;
    let may_link = !arguments.has('X');
    let mut entries = Vec::new();
    for directory in directories::all(shell, &system)? {
        search(shell, &system, &directory, may_link, &mut entries)?;
        if entries.len() > MAX_LIBRARIES {
            return shell.usage(b"ldconfig", "there are too many libraries");
        }
    }
    if arguments.has('N') {
        return Ok(0);
    }
    let Some(bytes) = cache::write(entries, system.generator.as_deref()) else {
        return shell.usage(b"ldconfig", "the cache would be too large");
    };
    match shell
        .files
        .replace(b"/etc/ld.so.cache", bytes, 0o644, (0, 0))?
    {
        Ok(()) => Ok(0),
        Err(errno) => {
            shell.complain(
                b"ldconfig",
                format!("Can't create temporary cache file: {errno}"),
            )?;
            Ok(1)
        }
    }
}

/// A library by its soname within one folder.
struct Library {
    name: Vec<u8>,
    soname: Vec<u8>,
    is_link: bool,
    flags: u32,
    os_version: u32,
}

/// Whether a name looks like that of a shared library or the dynamic linker.
fn is_library_name(name: &[u8]) -> bool {
    (name.starts_with(b"lib") || name.starts_with(b"ld-"))
        && name.windows(3).any(|part| part == b".so")
        && !name.ends_with(b".#prelink#")
}

fn search(
    shell: &mut Shell<'_>,
    system: &System,
    directory: &Directory,
    may_link: bool,
    entries: &mut Vec<Entry>,
) -> Run<()> {
    let mut libraries: Vec<Library> = Vec::new();
    for name in shell.files.list(&directory.path)?.unwrap_or_default() {
        if !is_library_name(&name) {
            continue;
        }
        shell.files.budget.step(100)?;
        let path = [&directory.path[..], b"/", &name].concat();
        let Some(standing) = shell.files.look(&path, Follow::No)? else {
            continue;
        };
        let is_link = matches!(standing.node, DraftNode::Symlink(_));
        let found = if is_link {
            match shell.files.look(&path, Follow::Links)? {
                Some(found) => found,
                None => {
                    if may_link && name.windows(4).any(|part| part == b".so.") {
                        let _ = shell.files.unlink(&path)?;
                    }
                    continue;
                }
            }
        } else {
            standing
        };
        let DraftNode::File(content) = &found.node else {
            continue;
        };
        let Some(read) = elf::read(shell, content, system.generator.is_none())? else {
            continue;
        };
        // The first level is what every processor has.
        if directory.hwcap.is_some() && read.isa > 1 {
            return shell.usage(b"ldconfig", "levels of processors are not interpreted");
        }
        let soname = read.soname.unwrap_or_else(|| name.clone());
        if soname.is_empty() || soname.contains(&b'/') || soname.len() > 255 {
            return shell.usage(b"ldconfig", "a library names itself oddly");
        }
        // A link that is neither the soname nor the development link to it counts as a library of its own.
        let is_link =
            is_link && (name == soname || (name.ends_with(b".so") && soname.starts_with(&name)));
        let library = Library {
            soname: if is_link { name.clone() } else { soname },
            name,
            is_link,
            flags: read.flags,
            os_version: read.os_version,
        };
        match libraries
            .iter_mut()
            .find(|known| known.soname == library.soname)
        {
            None => libraries.push(library),
            Some(known) => {
                let newer = (!library.is_link && known.is_link)
                    || (library.is_link == known.is_link
                        && cache::compare_names(&known.name, &library.name).is_lt());
                if newer {
                    if known.flags != library.flags {
                        return shell.usage(
                            b"ldconfig",
                            "libraries of one soname are of different types",
                        );
                    }
                    *known = library;
                }
            }
        }
    }
    for library in libraries {
        let file = if directory.hwcap.is_some() {
            &library.name
        } else {
            if !library.is_link && may_link {
                link(shell, &directory.path, &library)?;
            }
            &library.soname
        };
        entries.push(Entry {
            path: [&directory.path[..], b"/", file].concat(),
            soname: library.soname,
            flags: library.flags,
            os_version: library.os_version,
            hwcap: directory.hwcap.clone(),
        });
    }
    Ok(())
}

/// Makes the link from a soname to the library of that soname.
fn link(shell: &mut Shell<'_>, folder: &[u8], library: &Library) -> Run<()> {
    // The dynamic linker is a file of its own, never a link that this program moves.
    if library.soname.starts_with(b"ld-linux") {
        return Ok(());
    }
    let at = [folder, b"/", &library.soname].concat();
    let file = [folder, b"/", &library.name].concat();
    let standing = shell.files.look(&at, Follow::No)?;
    let is_symlink = standing
        .as_ref()
        .is_some_and(|standing| matches!(standing.node, DraftNode::Symlink(_)));
    if let Some(leads_to) = shell.files.look(&at, Follow::Links)? {
        let Some(wanted) = shell.files.look(&file, Follow::Links)? else {
            return Ok(());
        };
        if leads_to.identity == wanted.identity || !is_symlink {
            return Ok(());
        }
    }
    if is_symlink {
        let _ = shell.files.unlink(&at)?;
    }
    let _ = shell.files.make_symlink(&library.name, &at)?;
    Ok(())
}
