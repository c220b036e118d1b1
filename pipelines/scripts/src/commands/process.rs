//! Commands about processes and the machine: on a sleeping one there are none, or nobody can tell.

use super::arguments::{self, Spec};
use crate::call::Reason;
use crate::shell::Shell;
use crate::stop::Run;

pub(crate) fn succeed(_: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    Ok(0)
}

/// The program `echo`, which unlike dash's builtin takes backslashes as they are.
pub(crate) fn echo(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut rest = words.get(1..).unwrap_or_default();
    let mut newline = true;
    if rest.first().is_some_and(|first| first == b"-n") {
        newline = false;
        rest = rest.get(1..).unwrap_or_default();
    }
    let mut escapes = false;
    if let Some(option) = rest
        .first()
        .filter(|first| matches!(first.as_slice(), b"-e" | b"-E" | b"-n" | b"-ne" | b"-en"))
    {
        escapes = option.contains(&b'e');
        newline = newline && !option.contains(&b'n');
        rest = rest.get(1..).unwrap_or_default();
    }
    if rest
        .first()
        .is_some_and(|first| matches!(first.as_slice(), b"-e" | b"-E" | b"-n" | b"-ne" | b"-en"))
    {
        return shell.usage(b"echo", "several options are not interpreted");
    }
    let mut out = rest.join(&b' ');
    if escapes {
        let mut plain = Vec::new();
        let mut bytes = out.iter().copied();
        while let Some(byte) = bytes.next() {
            plain.push(match byte {
                b'\\' => match bytes.next() {
                    Some(b'n') => b'\n',
                    Some(b't') => b'\t',
                    Some(b'\\') => b'\\',
                    _ => return shell.usage(b"echo", "an escape is not interpreted"),
                },
                byte => byte,
            });
        }
        out = plain;
    }
    if newline {
        out.push(b'\n');
    }
    shell.out(&out)?;
    Ok(0)
}

/// Programs that do what the shell's builtins of the same name do.
pub(crate) fn builtin(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    shell.invoke(words, None)
}

pub(crate) fn fail(_: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    Ok(1)
}

/// `pgrep`, `pidof`, `pkill`, `killall`: no process of the guest is running.
pub(crate) fn no_process(_: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    Ok(1)
}

/// `ss`: nothing listens on a sleeping machine.
pub(crate) fn ss(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    shell.out(b"State Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n")?;
    Ok(0)
}

/// Clients such as `mysqladmin`: no server answers.
pub(crate) fn no_server(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let name = words.first().cloned().unwrap_or_default();
    if !words
        .iter()
        .any(|word| word == b"ping" || word == b"shutdown")
    {
        return shell.refuse(Reason::Running, &name, "asks a server that is not running");
    }
    shell.complain(&name, "connect to server failed")?;
    Ok(1)
}

/// `df -P`: the space of the filesystem as the guest left it.
pub(crate) fn df(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    const DF: Spec = Spec {
        short: "Pk",
        long: &[("portability", 'P')],
        permute: true,
    };
    let arguments = arguments::read(shell, words, &DF)?;
    let [path] = arguments.operands.as_slice() else {
        return shell.usage(b"df", "one path is interpreted");
    };
    if !arguments.has('P') {
        return shell.usage(b"df", "only the portable form is interpreted");
    }
    let Some(found) = shell.files.look(path, dormouse_filesystem::Follow::Links)? else {
        shell.complain(b"df", "No such file or directory")?;
        return Ok(1);
    };
    let base = shell.files.draft.base();
    let mount = base
        .mounts()
        .iter()
        .filter(|mount| found.path.starts_with(&mount.at))
        .max_by_key(|mount| mount.at.as_bytes().len());
    let Some(mount) = mount else {
        return shell.usage(b"df", "the filesystem is not known");
    };
    let info = mount.tree.info();
    let (total, free) = (info.size / 1024, info.free / 1024);
    let used = total.saturating_sub(free);
    let percent = used.saturating_mul(100).div_ceil(total.max(1));
    let line = format!(
        "Filesystem     1024-blocks    Used Available Capacity Mounted on\n{} {total} {used} {free} {percent}% {}\n",
        if mount.volume.is_empty() {
            "/dev/root"
        } else {
            &mount.volume
        },
        mount.at
    );
    shell.out(line.as_bytes())?;
    Ok(0)
}

pub(crate) fn uname(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let machine = match shell.world.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "i386" => "i686",
        "ppc64el" => "ppc64le",
        "s390x" => "s390x",
        _ => "",
    };
    if matches!(words, [_, option] if option == b"-r") {
        return kernel_release(shell);
    }
    if matches!(words, [_, option] if option == b"-n") {
        let name = name_of_machine(shell, b"uname")?;
        shell.out(&[&name[..], b"\n"].concat())?;
        return Ok(0);
    }
    let line: &str = match words {
        [_] => "Linux",
        [_, option] if option == b"-s" => "Linux",
        [_, option] if (option == b"-m" || option == b"-i") && !machine.is_empty() => machine,
        _ => {
            return shell.refuse(
                Reason::Running,
                b"uname",
                "asks for the kernel that is running",
            );
        }
    };
    shell.out(&[line.as_bytes(), b"\n"].concat())?;
    Ok(0)
}

/// The name that the machine gives itself when it starts: that of `/etc/hostname`.
fn name_of_machine(shell: &mut Shell<'_>, command: &[u8]) -> Run<Vec<u8>> {
    let text = shell.files.read(b"/etc/hostname")?.unwrap_or_default();
    let mut lines = text
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    match (lines.next(), lines.next()) {
        (Some(name), None) if name.len() <= 64 && name.iter().all(plain) => Ok(name.to_vec()),
        _ => shell.refuse(
            Reason::Running,
            command,
            "asks for the name of the running system",
        ),
    }
}

pub(crate) fn hostname(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut name = name_of_machine(shell, b"hostname")?;
    match words.get(1..).unwrap_or_default() {
        [] => {}
        [option] if option == b"-s" || option == b"--short" => {
            name.truncate(
                name.iter()
                    .position(|&byte| byte == b'.')
                    .unwrap_or(name.len()),
            );
        }
        _ => {
            return shell.refuse(
                Reason::Running,
                b"hostname",
                "asks the network, or changes the name of the running system",
            );
        }
    }
    name.push(b'\n');
    shell.out(&name)?;
    Ok(0)
}

/// `sh -c command [name [argument...]]`, or a script of the guest.
pub(crate) fn sh(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut letters: Vec<u8> = Vec::new();
    let mut rest = words.get(1..).unwrap_or_default();
    while let Some(option) = rest.first().and_then(|word| word.strip_prefix(b"-")) {
        if option.is_empty() || option.starts_with(b"-") {
            break;
        }
        letters.extend_from_slice(option);
        rest = rest.get(1..).unwrap_or_default();
    }
    let name = words.first().cloned().unwrap_or_default();
    let from_text = letters.contains(&b'c');
    letters.retain(|&letter| letter != b'c');
    if !letters.iter().all(|letter| b"eufx".contains(letter)) {
        return shell.usage(&name, "the options are not interpreted");
    }
    let Some(first) = rest.first().cloned() else {
        return shell.usage(
            &name,
            "commands from the standard input are not interpreted",
        );
    };
    if !from_text {
        return match shell.files.read(&first)? {
            Ok(content) => {
                shell.guest_script(&first, &content, rest, crate::dialect_of(&name), &letters)
            }
            Err(_) => Ok(127),
        };
    }
    let arguments: Vec<Vec<u8>> = match rest.get(1..) {
        Some(arguments) if !arguments.is_empty() => arguments.to_vec(),
        _ => vec![name.clone()],
    };
    let zero = arguments.first().cloned().unwrap_or_default();
    shell.guest_script(
        &zero,
        &first,
        &arguments,
        crate::dialect_of(&name),
        &letters,
    )
}

const SEQ: Spec = Spec {
    short: "ws:",
    long: &[("separator=", 's')],
    permute: false,
};

pub(crate) fn seq(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &SEQ)?;
    let mut numbers: Vec<i64> = Vec::new();
    for text in &arguments.operands {
        match std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
        {
            Some(number) => numbers.push(number),
            None => return shell.usage(b"seq", "only integers are interpreted"),
        }
    }
    let (first, step, last) = match numbers.as_slice() {
        [last] => (1, 1, *last),
        [first, last] => (*first, 1, *last),
        [first, step, last] if *step != 0 => (*first, *step, *last),
        _ => return shell.usage(b"seq", "the call is not interpreted"),
    };
    if arguments.has('w') {
        return shell.usage(b"seq", "-w is not interpreted");
    }
    let separator = arguments.value('s').unwrap_or(b"\n").to_vec();
    let mut out = Vec::new();
    let mut at = first;
    while (step > 0 && at <= last) || (step < 0 && at >= last) {
        shell.files.budget.step(1)?;
        if !out.is_empty() {
            out.extend_from_slice(&separator);
        }
        out.extend_from_slice(at.to_string().as_bytes());
        at = at.saturating_add(step);
        if at == i64::MAX || at == i64::MIN {
            break;
        }
    }
    if !out.is_empty() {
        out.push(b'\n');
    }
    shell.out(&out)?;
    Ok(0)
}

/// `run-parts`.
pub(crate) fn run_parts(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    const RUN_PARTS: Spec = Spec {
        short: "va:u:",
        long: &[
            ("test", 't'),
            ("list", 'l'),
            ("verbose", 'v'),
            ("report", 'r'),
            ("reverse", 'R'),
            ("exit-on-error", 'e'),
            ("umask=", 'u'),
            ("arg=", 'a'),
            ("lsbsysinit", 'L'),
            ("regex=", 'x'),
        ],
        permute: true,
    };
    let arguments = arguments::read(shell, words, &RUN_PARTS)?;
    if arguments.has('L') || arguments.has('x') || arguments.has('R') {
        return shell.usage(
            b"run-parts",
            "--lsbsysinit, --regex and --reverse are not interpreted",
        );
    }
    let [folder] = arguments.operands.as_slice() else {
        return shell.usage(b"run-parts", "one directory is interpreted");
    };
    let folder = crate::files::trim_slashes(folder).to_vec();
    let names = match shell.files.list(&folder)? {
        Ok(names) => names,
        Err(errno) => {
            shell.complain(b"run-parts", format!("failed to open directory: {errno}"))?;
            return Ok(1);
        }
    };
    let mut status = 0;
    for name in names {
        if !name
            .iter()
            .all(|&byte| byte == b'_' || byte == b'-' || byte.is_ascii_alphanumeric())
        {
            continue;
        }
        let path = [&folder[..], b"/", &name].concat();
        let Some(found) = shell
            .files
            .look(&path, dormouse_filesystem::Follow::Links)?
        else {
            continue;
        };
        if found.node.kind() != dormouse_filesystem::NodeKind::File {
            continue;
        }
        if arguments.has('l') {
            shell.out(&[&path[..], b"\n"].concat())?;
            continue;
        }
        if found.attributes.mode & 0o111 == 0 {
            continue;
        }
        if arguments.has('t') {
            shell.out(&[&path[..], b"\n"].concat())?;
            continue;
        }
        let mut call = vec![path];
        call.extend(arguments.values('a').map(<[u8]>::to_vec));
        let ended = shell.subshell(|shell| shell.execute(&call))?;
        if ended != 0 {
            status = if arguments.has('e') { ended } else { 1 };
            if arguments.has('e') {
                return Ok(status);
            }
        }
    }
    Ok(status)
}

/// `uname -r`: the release of the kernel that the machine will start, which is the newest of those that are installed.
fn kernel_release(shell: &mut Shell<'_>) -> Run<i32> {
    let names = shell.files.list(b"/boot")?.unwrap_or_default();
    let newest = names
        .iter()
        .filter_map(|name| name.strip_prefix(b"vmlinuz-"))
        .max_by(|one, other| crate::version::compare(one, other));
    let Some(release) = newest else {
        return shell.refuse(
            Reason::Running,
            b"uname",
            "asks for the kernel that is running",
        );
    };
    shell.out(&[release, b"\n"].concat())?;
    Ok(0)
}
