//! The account files: who has which number.

use crate::shell::Shell;
use crate::stop::Run;

/// The fields of the records of a file such as `/etc/passwd`.
pub(crate) fn records(shell: &mut Shell<'_>, path: &str) -> Run<Vec<Vec<Vec<u8>>>> {
    let text = shell.files.read(path.as_bytes())?.unwrap_or_default();
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| {
            line.split(|&byte| byte == b':')
                .map(<[u8]>::to_vec)
                .collect()
        })
        .collect())
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))?
        .parse()
        .ok()
}

/// The record of `/etc/passwd` for a name, or for a number.
pub(crate) fn passwd(shell: &mut Shell<'_>, key: &[u8]) -> Run<Option<Vec<Vec<u8>>>> {
    let records = records(shell, "/etc/passwd")?;
    let by_name = records
        .iter()
        .find(|record| record.first().is_some_and(|name| name == key));
    let found = by_name.or_else(|| {
        number(key)?;
        records
            .iter()
            .find(|record| record.get(2).is_some_and(|uid| uid == key))
    });
    Ok(found.cloned())
}

/// The record of `/etc/group` for a name, or for a number.
pub(crate) fn group_record(shell: &mut Shell<'_>, key: &[u8]) -> Run<Option<Vec<Vec<u8>>>> {
    let records = records(shell, "/etc/group")?;
    let by_name = records
        .iter()
        .find(|record| record.first().is_some_and(|name| name == key));
    let found = by_name.or_else(|| {
        number(key)?;
        records
            .iter()
            .find(|record| record.get(2).is_some_and(|gid| gid == key))
    });
    Ok(found.cloned())
}

/// The user and group number of a user's name, or of a number.
pub(crate) fn user(shell: &mut Shell<'_>, key: &[u8]) -> Run<Option<(u32, Option<u32>)>> {
    let plus = key.strip_prefix(b"+");
    if plus.is_none()
        && let Some(record) = passwd(shell, key)?
    {
        let uid = record.get(2).and_then(|uid| number(uid));
        let gid = record.get(3).and_then(|gid| number(gid));
        return Ok(uid.map(|uid| (uid, gid)));
    }
    Ok(number(plus.unwrap_or(key)).map(|uid| (uid, None)))
}

/// The number of a group's name, or of a number.
pub(crate) fn group(shell: &mut Shell<'_>, key: &[u8]) -> Run<Option<u32>> {
    let plus = key.strip_prefix(b"+");
    if plus.is_none()
        && let Some(record) = group_record(shell, key)?
    {
        return Ok(record.get(2).and_then(|gid| number(gid)));
    }
    Ok(number(plus.unwrap_or(key)))
}

/// A user's home directory.
pub(crate) fn home_of(shell: &mut Shell<'_>, user: &[u8]) -> Run<Option<Vec<u8>>> {
    let records = records(shell, "/etc/passwd")?;
    Ok(records
        .iter()
        .find(|record| record.first().is_some_and(|name| name == user))
        .and_then(|record| record.get(5).cloned()))
}

/// The name of a user's number.
pub(crate) fn user_name(shell: &mut Shell<'_>, uid: u32) -> Run<Option<Vec<u8>>> {
    name_of(shell, "/etc/passwd", uid)
}

/// The name of a group's number.
pub(crate) fn group_name(shell: &mut Shell<'_>, gid: u32) -> Run<Option<Vec<u8>>> {
    name_of(shell, "/etc/group", gid)
}

fn name_of(shell: &mut Shell<'_>, file: &str, number: u32) -> Run<Option<Vec<u8>>> {
    let wanted = number.to_string().into_bytes();
    let records = records(shell, file)?;
    Ok(records
        .iter()
        .find(|record| record.get(2) == Some(&wanted))
        .and_then(|record| record.first().cloned()))
}

/// `getent passwd|group [key...]`.
pub(crate) fn getent(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let (database, keys) = match words {
        [_, database, keys @ ..] => (database.as_slice(), keys),
        _ => return shell.usage(b"getent", "the database is missing"),
    };
    let file = match database {
        b"passwd" => "/etc/passwd",
        b"group" => "/etc/group",
        b"shadow" => "/etc/shadow",
        _ => return shell.usage(b"getent", "only the account files are read"),
    };
    if keys.is_empty() {
        let records = records(shell, file)?;
        for record in records {
            shell.out(&[record.join(&b':'), b"\n".to_vec()].concat())?;
        }
        return Ok(0);
    }
    let mut status = 0;
    for key in keys {
        let found = match database {
            b"passwd" => passwd(shell, key)?,
            b"group" => group_record(shell, key)?,
            _ => records(shell, file)?
                .into_iter()
                .find(|record| record.first() == Some(key)),
        };
        match found {
            Some(record) => shell.out(&[record.join(&b':'), b"\n".to_vec()].concat())?,
            None => status = 2,
        }
    }
    Ok(status)
}

/// `id`.
pub(crate) fn id(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let (mut letters, mut user_key): (Vec<u8>, Option<Vec<u8>>) = (Vec::new(), None);
    for word in words.get(1..).unwrap_or_default() {
        match word.as_slice() {
            b"--user" => letters.push(b'u'),
            b"--group" => letters.push(b'g'),
            b"--name" => letters.push(b'n'),
            b"--groups" => letters.push(b'G'),
            [b'-', rest @ ..] if !rest.is_empty() => letters.extend_from_slice(rest),
            _ => user_key = Some(word.clone()),
        }
    }
    let key = user_key.clone().unwrap_or_else(|| b"root".to_vec());
    let Some(record) = passwd(shell, &key)? else {
        let text = format!("'{}': no such user", String::from_utf8_lossy(&key));
        shell.complain(b"id", text)?;
        return Ok(1);
    };
    let field = |index: usize| record.get(index).cloned().unwrap_or_default();
    let (name, uid, gid) = (field(0), field(2), field(3));
    let mut groups = vec![gid.clone()];
    for group in records(shell, "/etc/group")? {
        let members = group.get(3).cloned().unwrap_or_default();
        let is_member = members
            .split(|&byte| byte == b',')
            .any(|member| member == name);
        if let Some(other) = group.get(2)
            && is_member
            && !groups.contains(other)
        {
            groups.push(other.clone());
        }
    }
    let named = letters.contains(&b'n');
    let mut names = Vec::new();
    for group in &groups {
        let number = number(group).unwrap_or(0);
        let known = group_name(shell, number)?;
        names.push(known.unwrap_or_else(|| group.clone()));
    }
    letters.retain(|letter| !b"nr".contains(letter));
    let mut line = match letters.as_slice() {
        b"u" if named => name,
        b"u" => uid,
        b"g" if named => names.first().cloned().unwrap_or_default(),
        b"g" => gid,
        b"G" if named => names.join(&b' '),
        b"G" => groups.join(&b' '),
        b"" => {
            let mut line = [b"uid=", &uid[..], b"(", &name, b") gid=", &gid, b"("].concat();
            line.extend_from_slice(names.first().map(Vec::as_slice).unwrap_or_default());
            line.extend_from_slice(b") groups=");
            let listed: Vec<Vec<u8>> = groups
                .iter()
                .zip(&names)
                .map(|(group, name)| [&group[..], b"(", name, b")"].concat())
                .collect();
            line.extend_from_slice(&listed.join(&b','));
            line
        }
        _ => return shell.usage(b"id", "the options are not interpreted"),
    };
    line.push(b'\n');
    shell.out(&line)?;
    Ok(0)
}
