//! A fix as a fragment of a POSIX script, for a machine that must not be edited while it sleeps.
//!
//! It makes of the same tree the same bytes as an injection. [`FIX_FUNCTIONS`] comes first, once; a fragment ends with the
//! first edit that cannot be made, and says so.

use std::fmt::Write as _;

use dormouse_block::{Error, Result};
use dormouse_packages::edit::{Edit, LineState};
use dormouse_packages::{Account, Mode};

use super::PlannedFix;

/// The functions that fragments call. `fix_root` is put before every path.
pub const FIX_FUNCTIONS: &str = include_str!("fix.sh");

/// The fragment that makes a fix: its exit status is 0 where all of it is so. Made twice it changes nothing.
///
/// # Errors
/// `Unsupported` for a path that is not UTF-8 or content with a NUL character, which no script can carry.
pub fn fix_script(fix: &PlannedFix) -> Result<String> {
    let plain = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).collect() };
    let mut out = format!("# {}: {}\n", plain(&fix.id), plain(&fix.title));
    for edit in &fix.edits {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{} &&", call(edit)?);
    }
    out.push_str("true ||\n");
    let _ = writeln!(out, "fix_say {}", word(&format!("{} is not made", fix.id))?);
    Ok(out)
}

fn call(edit: &Edit) -> Result<String> {
    let path = std::str::from_utf8(edit.path().as_bytes())
        .map_err(|error| Error::unsupported("a path that is not UTF-8").because(error))?;
    let flag = |yes: bool| if yes { "yes" } else { "no" };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (name, words): (&str, Vec<String>) = match edit {
        Edit::Set(set) => (
            "fix_set",
            vec![
                flag(set.create).into(),
                flag(set.section.is_some()).into(),
                text(&set.section),
                set.key.clone(),
                set.value.clone(),
                set.separator.clone(),
                set.comments.clone(),
                flag(set.ignore_case).into(),
                flag(set.ends_at.is_some()).into(),
                text(&set.ends_at),
            ],
        ),
        Edit::Line(line) => {
            let glob = |glob: &Option<dormouse_packages::Glob>| {
                glob.as_ref().map(ToString::to_string).unwrap_or_default()
            };
            let (state, create) = match (line.state, line.create) {
                (LineState::Absent, _) => ("absent", "right"),
                (LineState::Present, create) => ("present", flag(create)),
            };
            (
                "fix_line",
                vec![
                    create.into(),
                    state.into(),
                    flag(line.line.is_some()).into(),
                    text(&line.line),
                    flag(line.matching.is_some()).into(),
                    glob(&line.matching),
                    flag(line.after.is_some()).into(),
                    glob(&line.after),
                ],
            )
        }
        Edit::Write(file) => {
            let mut words = ownership(file.owner.as_ref(), file.group.as_ref(), file.mode);
            words.push(file.content.clone());
            ("fix_write", words)
        }
        Edit::Remove(_) => ("fix_remove", Vec::new()),
        Edit::Attributes(one) => (
            "fix_attributes",
            ownership(one.owner.as_ref(), one.group.as_ref(), one.mode),
        ),
        Edit::Symlink(link) => ("fix_symlink", vec![link.target.clone()]),
    };
    let mut out = format!("{name} {}", word(path)?);
    for one in words {
        out.push(' ');
        out.push_str(&word(&one)?);
    }
    Ok(out)
}

fn ownership(owner: Option<&Account>, group: Option<&Account>, mode: Option<Mode>) -> Vec<String> {
    let text = |account: Option<&Account>| account.map(ToString::to_string).unwrap_or_default();
    let mode = mode.map(|mode| mode.to_string()).unwrap_or_default();
    vec![text(owner), text(group), mode]
}

/// Any text as one word of a shell.
fn word(text: &str) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::unsupported(
            "a NUL character, which no script can carry",
        ));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_one_word() {
        for (text, quoted) in [
            ("", "''"),
            ("a b", "'a b'"),
            ("it's; $(reboot) `x` \\", r"'it'\''s; $(reboot) `x` \'"),
            ("-n\n#", "'-n\n#'"),
        ] {
            assert_eq!(word(text).unwrap(), quoted);
        }
        assert!(word("\0").is_err());
    }
}
