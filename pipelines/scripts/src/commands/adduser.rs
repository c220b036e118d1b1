//! `adduser`, `addgroup` and `usermod`: system accounts, as Debian's programs edit the account files.

use dormouse_filesystem::Follow;

use super::accounts;
use super::arguments::{self, Spec};
use super::make;
use super::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

const ADDUSER: Spec = Spec {
    short: "q",
    long: &[
        ("system", 's'),
        ("group", 'g'),
        ("quiet", 'q'),
        ("home=", 'd'),
        ("no-create-home", 'H'),
        ("disabled-login", 'l'),
        ("disabled-password", 'p'),
        ("force-badname", 'b'),
        ("allow-bad-names", 'b'),
        ("allow-badname", 'b'),
        ("shell=", 'S'),
        ("gecos=", 'c'),
        ("comment=", 'c'),
        ("ingroup=", 'G'),
        ("uid=", 'u'),
        ("gid=", 'i'),
        ("firstuid=", 'f'),
        ("lastuid=", 'L'),
        ("conf=", 'C'),
    ],
    permute: true,
};

/// The range of system accounts and the mode of their homes, as `/etc/adduser.conf` may set them.
struct Settings {
    first: u32,
    last: u32,
    home_mode: u16,
}

fn settings(shell: &mut Shell<'_>) -> Run<Settings> {
    let text = shell.files.read(b"/etc/adduser.conf")?.unwrap_or_default();
    let mut out = Settings {
        first: 100,
        last: 999,
        home_mode: 0o755,
    };
    for line in lines(&text) {
        let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim_matches('"');
        match name {
            "FIRST_SYSTEM_UID" | "FIRST_SYSTEM_GID" => {
                out.first = value.parse().unwrap_or(out.first);
            }
            "LAST_SYSTEM_UID" | "LAST_SYSTEM_GID" => out.last = value.parse().unwrap_or(out.last),
            "SYS_DIR_MODE" => {
                out.home_mode = u16::from_str_radix(value, 8).unwrap_or(out.home_mode);
            }
            _ => {}
        }
    }
    Ok(out)
}

fn field(record: &[Vec<u8>], index: usize) -> Option<u32> {
    std::str::from_utf8(record.get(index)?).ok()?.parse().ok()
}

/// The lowest number of the range that nobody has.
fn free(shell: &mut Shell<'_>, settings: &Settings, files: &[&str]) -> Run<Option<u32>> {
    let mut taken = std::collections::BTreeSet::new();
    for file in files {
        for record in accounts::records(shell, file)? {
            taken.extend(field(&record, 2));
        }
    }
    Ok((settings.first..=settings.last).find(|number| !taken.contains(number)))
}

/// Replaces an account file, the old one kept beside it with a dash.
fn rewrite(shell: &mut Shell<'_>, path: &str, text: Vec<u8>) -> Run<()> {
    let Some(found) = shell.files.look(path.as_bytes(), Follow::Links)? else {
        return shell.usage(b"adduser", format!("{path} is missing"));
    };
    let old = shell.files.read(path.as_bytes())?.unwrap_or_default();
    let attributes = found.attributes;
    let owner = (attributes.uid, attributes.gid);
    let backup = format!("{path}-");
    for (path, bytes) in [(backup.as_str(), old), (path, text)] {
        if shell
            .files
            .replace(path.as_bytes(), bytes, attributes.mode, owner)?
            .is_err()
        {
            return shell.usage(b"adduser", format!("{path} cannot be written"));
        }
    }
    Ok(())
}

fn append(shell: &mut Shell<'_>, path: &str, line: &str) -> Run<()> {
    let mut text = shell.files.read(path.as_bytes())?.unwrap_or_default();
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(line.as_bytes());
    text.push(b'\n');
    rewrite(shell, path, text)
}

fn make_group(shell: &mut Shell<'_>, name: &str, gid: u32) -> Run<()> {
    append(shell, "/etc/group", &format!("{name}:x:{gid}:"))?;
    append(shell, "/etc/gshadow", &format!("{name}:!::"))
}

fn is_good_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
        && name.len() <= 32
}

pub(crate) fn adduser(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let command = words.first().cloned().unwrap_or_default();
    let arguments = arguments::read(shell, words, &ADDUSER)?;
    if "fLC".chars().any(|letter| arguments.has(letter)) {
        return shell.usage(&command, "given ranges and settings are not interpreted");
    }
    let given = |letter: char| -> Option<Option<u32>> {
        let text = arguments.value(letter)?;
        Some(
            std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok()),
        )
    };
    let (uid, gid) = (given('u'), given('i'));
    if uid == Some(None) || gid == Some(None) {
        return shell.usage(&command, "a given number is not interpreted");
    }
    let (uid, gid) = (uid.flatten(), gid.flatten());
    let names: Vec<String> = arguments
        .operands
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let text = |letter: char| {
        arguments
            .value(letter)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    };
    match names.as_slice() {
        [user, group] if command == b"adduser" => join_group(shell, &command, user, group),
        [name] if arguments.has('s') => {
            if !is_good_name(name) {
                return shell.usage(&command, "the name is not interpreted");
            }
            let only_group = command == b"addgroup";
            let settings = settings(shell)?;
            if only_group {
                return system_group(shell, name, &settings, gid);
            }
            if gid.is_some() && arguments.has('G') {
                return shell.usage(&command, "a group by name and by number is not interpreted");
            }
            // A group by its number must be there; its name stands for it from here on.
            let group = match gid {
                None => text('G'),
                Some(gid) => match accounts::group_name(shell, gid)? {
                    Some(name) => Some(String::from_utf8_lossy(&name).into_owned()),
                    None => {
                        shell.complain(&command, "The group does not exist.")?;
                        return Ok(1);
                    }
                },
            };
            let gecos = text('c').unwrap_or_default();
            if gecos.contains([':', '\n']) {
                return shell.usage(&command, "the description is not interpreted");
            }
            let wanted = Wanted {
                name: name.clone(),
                own_group: arguments.has('g'),
                group,
                uid,
                home: text('d').unwrap_or_else(|| "/nonexistent".to_owned()),
                make_home: !arguments.has('H'),
                shell: text('S').unwrap_or_else(|| "/usr/sbin/nologin".to_owned()),
                gecos,
            };
            system_user(shell, &wanted, &settings)
        }
        _ => shell.usage(&command, "only system accounts are interpreted"),
    }
}

fn system_group(
    shell: &mut Shell<'_>,
    name: &str,
    settings: &Settings,
    wanted: Option<u32>,
) -> Run<i32> {
    if let Some(known) = accounts::group_record(shell, name.as_bytes())? {
        let gid = field(&known, 2).unwrap_or(u32::MAX);
        if let Some(wanted) = wanted {
            return if wanted == gid {
                Ok(0)
            } else {
                shell.usage(b"addgroup", "the group has another number")
            };
        }
        return Ok(i32::from(!(settings.first..=settings.last).contains(&gid)));
    }
    let gid = match wanted {
        Some(gid) if accounts::group_name(shell, gid)?.is_some() => {
            shell.complain(b"addgroup", "The GID is already in use.")?;
            return Ok(1);
        }
        Some(gid) => Some(gid),
        None => free(shell, settings, &["/etc/group"])?,
    };
    let Some(gid) = gid else {
        return Ok(1);
    };
    make_group(shell, name, gid)?;
    Ok(0)
}

struct Wanted {
    name: String,
    uid: Option<u32>,
    own_group: bool,
    group: Option<String>,
    home: String,
    make_home: bool,
    shell: String,
    gecos: String,
}

fn system_user(shell: &mut Shell<'_>, wanted: &Wanted, settings: &Settings) -> Run<i32> {
    let Wanted { name, .. } = wanted;
    if let Some(known) = accounts::passwd(shell, name.as_bytes())? {
        let uid = field(&known, 2).unwrap_or(u32::MAX);
        if let Some(given) = wanted.uid {
            return if given == uid {
                Ok(0)
            } else {
                shell.usage(b"adduser", "the user has another number")
            };
        }
        return Ok(i32::from(!(settings.first..=settings.last).contains(&uid)));
    }
    // Until bullseye a user and its own group had one number.
    let program = shell.files.read(b"/usr/sbin/adduser")?.unwrap_or_default();
    let program = String::from_utf8_lossy(&program).into_owned();
    let paired = program
        .split("\"addsysuser\")")
        .nth(1)
        .and_then(|rest| rest.split("$new_uid == -1").next())
        .is_some_and(|part| part.contains("first_avail_uid_gid"));
    let files: &[&str] = if wanted.own_group && paired {
        &["/etc/passwd", "/etc/group"]
    } else {
        &["/etc/passwd"]
    };
    let uid = match wanted.uid {
        Some(uid) if accounts::user_name(shell, uid)?.is_some() => {
            shell.complain(b"adduser", "The UID is already in use.")?;
            return Ok(1);
        }
        // A group of its own would have the same number, or another one, by release.
        Some(_) if wanted.own_group => {
            return shell.usage(
                b"adduser",
                "a number and a group of its own are not interpreted",
            );
        }
        Some(uid) => Some(uid),
        None => free(shell, settings, files)?,
    };
    let Some(uid) = uid else {
        return Ok(1);
    };
    let known = match (&wanted.group, wanted.own_group) {
        (Some(group), _) => match accounts::group_record(shell, group.as_bytes())? {
            Some(record) => Some(record),
            None => {
                shell.complain(b"adduser", "The group does not exist.")?;
                return Ok(1);
            }
        },
        (None, true) => accounts::group_record(shell, name.as_bytes())?,
        (None, false) => accounts::group_record(shell, b"nogroup")?,
    };
    let gid = match known.as_ref().and_then(|record| field(record, 2)) {
        Some(gid) => gid,
        None if wanted.own_group => {
            let gid = if paired {
                Some(uid)
            } else {
                free(shell, settings, &["/etc/group"])?
            };
            let Some(gid) = gid else {
                return Ok(1);
            };
            make_group(shell, name, gid)?;
            gid
        }
        None => return Ok(1),
    };
    let day = shell.files.now.seconds.div_euclid(86_400);
    let Wanted {
        home,
        shell: login,
        gecos,
        ..
    } = wanted;
    append(
        shell,
        "/etc/passwd",
        &format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{login}"),
    )?;
    append(shell, "/etc/shadow", &format!("{name}:!:{day}::::::"))?;
    let nowhere = home.trim_start_matches('/').split('/').next() == Some("nonexistent");
    if wanted.make_home && !nowhere && !shell.files.exists(home.as_bytes(), Follow::Links)? {
        if make::make_parents(shell, home.as_bytes(), 0o755, Some(settings.home_mode))?.is_err() {
            return Ok(1);
        }
        if let Some(found) = shell.files.look(home.as_bytes(), Follow::Links)? {
            let mode = settings.home_mode;
            shell.files.change(&found.path, |attributes| {
                (attributes.uid, attributes.gid, attributes.mode) = (uid, gid, mode);
            })?;
        }
    }
    Ok(0)
}

/// Adds a user to the members of a group in a file whose last field lists them.
fn add_member(shell: &mut Shell<'_>, path: &str, group: &str, user: &str) -> Run<()> {
    let text = shell.files.read(path.as_bytes())?.unwrap_or_default();
    let mut out = Vec::new();
    for line in lines(&text) {
        out.extend_from_slice(line);
        let mut fields = line.split(|&byte| byte == b':');
        let mine = fields.next() == Some(group.as_bytes());
        let members = fields.next_back().unwrap_or_default();
        if mine
            && !members
                .split(|&byte| byte == b',')
                .any(|member| member == user.as_bytes())
        {
            if !members.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(user.as_bytes());
        }
        out.push(b'\n');
    }
    if out != text {
        rewrite(shell, path, out)?;
    }
    Ok(())
}

fn join_group(shell: &mut Shell<'_>, command: &[u8], user: &str, group: &str) -> Run<i32> {
    if accounts::passwd(shell, user.as_bytes())?.is_none() {
        shell.complain(command, "The user does not exist.")?;
        return Ok(1);
    }
    if accounts::group_record(shell, group.as_bytes())?.is_none() {
        shell.complain(command, "The group does not exist.")?;
        return Ok(1);
    }
    add_member(shell, "/etc/group", group, user)?;
    add_member(shell, "/etc/gshadow", group, user)?;
    Ok(0)
}

const USERMOD: Spec = Spec {
    short: "aG:d:s:c:g:u:lLUmp:e:",
    long: &[
        ("append", 'a'),
        ("groups=", 'G'),
        ("home=", 'd'),
        ("shell=", 's'),
        ("comment=", 'c'),
        ("gid=", 'g'),
    ],
    permute: true,
};

pub(crate) fn usermod(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let arguments = arguments::read(shell, words, &USERMOD)?;
    let [user] = arguments.operands.as_slice() else {
        return shell.usage(b"usermod", "one user is interpreted");
    };
    if "ulLUmpe".chars().any(|letter| arguments.has(letter))
        || (arguments.has('G') && !arguments.has('a'))
    {
        return shell.usage(b"usermod", "the options are not interpreted");
    }
    if accounts::passwd(shell, user)?.is_none() {
        shell.complain(b"usermod", "the user does not exist")?;
        return Ok(6);
    }
    let name = String::from_utf8_lossy(user).into_owned();
    if let Some(groups) = arguments.value('G').map(<[u8]>::to_vec) {
        for group in groups.split(|&byte| byte == b',') {
            let group = String::from_utf8_lossy(group).into_owned();
            if accounts::group_record(shell, group.as_bytes())?.is_none() {
                shell.complain(b"usermod", "the group does not exist")?;
                return Ok(6);
            }
            add_member(shell, "/etc/group", &group, &name)?;
            add_member(shell, "/etc/gshadow", &group, &name)?;
        }
    }
    let mut changes: Vec<(usize, Vec<u8>)> = Vec::new();
    for (letter, index) in [('d', 5_usize), ('s', 6), ('c', 4)] {
        if let Some(value) = arguments.value(letter) {
            changes.push((index, value.to_vec()));
        }
    }
    if let Some(group) = arguments.value('g') {
        match accounts::group(shell, group)? {
            Some(gid) => changes.push((3, gid.to_string().into_bytes())),
            None => return Ok(6),
        }
    }
    if changes.is_empty() {
        return Ok(0);
    }
    let text = shell.files.read(b"/etc/passwd")?.unwrap_or_default();
    let mut out = Vec::new();
    for line in lines(&text) {
        let mut fields: Vec<Vec<u8>> = line
            .split(|&byte| byte == b':')
            .map(<[u8]>::to_vec)
            .collect();
        if fields.first() == Some(user) {
            for (index, value) in &changes {
                if let Some(place) = fields.get_mut(*index) {
                    *place = value.clone();
                }
            }
        }
        out.extend_from_slice(&fields.join(&b':'));
        out.push(b'\n');
    }
    if out != text {
        rewrite(shell, "/etc/passwd", out)?;
    }
    Ok(0)
}

const DELUSER: Spec = Spec {
    short: "q",
    long: &[("quiet", 'q'), ("system", 's'), ("group", 'g')],
    permute: true,
};

/// `deluser USER GROUP`; and `deluser` and `delgroup` of what is not there.
pub(crate) fn deluser(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let command = words.first().cloned().unwrap_or_default();
    let arguments = arguments::read(shell, words, &DELUSER)?;
    let names: Vec<String> = arguments
        .operands
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    match names.as_slice() {
        [user, group] => {
            if accounts::passwd(shell, user.as_bytes())?.is_none() {
                shell.complain(&command, format!("The user `{user}' does not exist."))?;
                return Ok(2);
            }
            let Some(record) = accounts::group_record(shell, group.as_bytes())? else {
                shell.complain(&command, format!("The group `{group}' does not exist."))?;
                return Ok(3);
            };
            let primary = accounts::user(shell, user.as_bytes())?.and_then(|(_, gid)| gid);
            if primary.is_some() && primary == field(&record, 2) {
                shell.complain(
                    &command,
                    "You may not remove the user from their primary group.",
                )?;
                return Ok(7);
            }
            let members = record.get(3).cloned().unwrap_or_default();
            if !members
                .split(|&byte| byte == b',')
                .any(|member| member == user.as_bytes())
            {
                shell.complain(
                    &command,
                    format!("The user `{user}' is not a member of group `{group}'."),
                )?;
                return Ok(6);
            }
            remove_member(shell, "/etc/group", group, user)?;
            remove_member(shell, "/etc/gshadow", group, user)?;
            Ok(0)
        }
        [name] => {
            let only_group = command == b"delgroup" || arguments.has('g');
            let there = if only_group {
                accounts::group_record(shell, name.as_bytes())?.is_some()
            } else {
                accounts::passwd(shell, name.as_bytes())?.is_some()
            };
            if there {
                return shell.usage(&command, "removing an account is not interpreted");
            }
            // A system account that is not there is as wanted.
            if arguments.has('s') {
                return Ok(0);
            }
            shell.complain(&command, format!("`{name}' does not exist."))?;
            Ok(if only_group { 3 } else { 2 })
        }
        _ => shell.usage(&command, "the call is not interpreted"),
    }
}

fn remove_member(shell: &mut Shell<'_>, path: &str, group: &str, user: &str) -> Run<()> {
    let text = shell.files.read(path.as_bytes())?.unwrap_or_default();
    let mut out = Vec::new();
    for line in lines(&text) {
        let mut fields: Vec<Vec<u8>> = line
            .split(|&byte| byte == b':')
            .map(<[u8]>::to_vec)
            .collect();
        if fields.first().is_some_and(|name| name == group.as_bytes())
            && let Some(members) = fields.last_mut()
        {
            *members = members
                .split(|&byte| byte == b',')
                .filter(|member| *member != user.as_bytes())
                .collect::<Vec<_>>()
                .join(&b',');
        }
        out.extend_from_slice(&fields.join(&b':'));
        out.push(b'\n');
    }
    if out != text {
        rewrite(shell, path, out)?;
    }
    Ok(())
}

/// `useradd` of an account that is there already; making one is left to the guest's own program.
pub(crate) fn useradd(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let name = words.last().cloned().unwrap_or_default();
    if accounts::passwd(shell, &name)?.is_none() {
        return shell.usage(b"useradd", "making an account is not interpreted");
    }
    shell.complain(b"useradd", "user already exists")?;
    Ok(9)
}

/// `groupadd` of a group that is there already.
pub(crate) fn groupadd(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let name = words.last().cloned().unwrap_or_default();
    if accounts::group_record(shell, &name)?.is_none() {
        return shell.usage(b"groupadd", "making a group is not interpreted");
    }
    if words.iter().any(|word| word == b"-f" || word == b"--force") {
        return Ok(0);
    }
    shell.complain(b"groupadd", "group already exists")?;
    Ok(9)
}
