//! `su` and `runuser`: a command as another user, as far as it only asks about files.

use super::accounts;
use super::arguments::{self, Spec};
use crate::files::User;
use crate::shell::Shell;
use crate::stop::Run;
use crate::syntax::Dialect;

const SU: Spec = Spec {
    short: "s:c:lu:mp",
    long: &[
        ("shell=", 's'),
        ("command=", 'c'),
        ("login", 'l'),
        ("user=", 'u'),
    ],
    permute: true,
};

/// The numbers of a user and of the user's groups, the own one first.
fn identity(shell: &mut Shell<'_>, name: &[u8]) -> Run<Option<User>> {
    let Some((uid, Some(gid))) = accounts::user(shell, name)? else {
        return Ok(None);
    };
    let mut groups = vec![gid];
    for record in accounts::records(shell, "/etc/group")? {
        let members = record.get(3).cloned().unwrap_or_default();
        let is_member = members
            .split(|&byte| byte == b',')
            .any(|member| member == name);
        let number = record
            .get(2)
            .and_then(|gid| std::str::from_utf8(gid).ok()?.parse().ok());
        if let Some(number) = number.filter(|_| is_member) {
            groups.push(number);
        }
    }
    Ok(Some(User { uid, groups }))
}

pub(crate) fn su(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let command = words.first().cloned().unwrap_or_default();
    let arguments = arguments::read(shell, words, &SU)?;
    if "lmp".chars().any(|letter| arguments.has(letter)) {
        return shell.usage(&command, "logins and kept environments are not interpreted");
    }
    let (name, rest) = match (arguments.value('u'), arguments.operands.split_first()) {
        (Some(name), _) => (name.to_vec(), arguments.operands.clone()),
        (None, Some((name, rest))) => (name.clone(), rest.to_vec()),
        (None, None) => return shell.usage(&command, "a user is missing"),
    };
    let Some(record) = accounts::passwd(shell, &name)? else {
        shell.complain(&command, "user does not exist")?;
        return Ok(1);
    };
    let Some(user) = identity(shell, &name)? else {
        return shell.usage(&command, "the user's numbers are not known");
    };
    let login = arguments
        .value('s')
        .map(<[u8]>::to_vec)
        .or_else(|| record.get(6).cloned())
        .unwrap_or_default();
    if arguments.has('u') || !rest.is_empty() || user.uid == 0 {
        return shell.usage(&command, "only -c COMMAND as another user is interpreted");
    }
    let Some(text) = arguments.value('c').map(<[u8]>::to_vec) else {
        return shell.usage(&command, "a command is missing");
    };
    // Accounts whose shell only says no.
    if login.ends_with(b"/nologin") || login.ends_with(b"/false") {
        return Ok(1);
    }
    let dialect = match login.rsplit(|&byte| byte == b'/').next() {
        Some(b"sh" | b"dash") => Dialect::Posix,
        Some(b"bash") => Dialect::Bash,
        _ => return shell.usage(&command, "the user's shell is not interpreted"),
    };
    let before = shell.files.user.replace(user);
    let result = shell.guest_script(&login, &text, std::slice::from_ref(&login), dialect, b"");
    shell.files.user = before;
    result
}
