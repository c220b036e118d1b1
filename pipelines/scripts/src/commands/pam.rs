//! `pam-auth-update`, where it would leave everything as it is: every profile was seen before, and the enabled ones say
//! what they said when the common files were written. Then the program writes the same lines again; anything else is left
//! to it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::text::lines;
use crate::shell::Shell;
use crate::stop::Run;

const PROFILES: &[u8] = b"/usr/share/pam-configs";
const SAVED: &str = "/var/lib/pam";

/// The files below `/var/lib/pam`, and the field of a profile that each comes from.
const TYPES: &[(&str, &str)] = &[
    ("auth", "Auth"),
    ("account", "Account"),
    ("password", "Password"),
    ("session", "Session"),
    ("session-noninteractive", "Session"),
];

/// A profile's fields; those of several lines without their indentation.
type Profile = BTreeMap<String, String>;

fn parse(text: &[u8]) -> Profile {
    let mut out = Profile::new();
    let mut last = String::new();
    for line in lines(text) {
        let line = String::from_utf8_lossy(line).into_owned();
        if line.starts_with([' ', '\t']) {
            if let Some(value) = out.get_mut(&last)
                && !line.trim().is_empty()
            {
                value.push_str(line.trim());
                value.push('\n');
            }
        } else if let Some((name, value)) = line.split_once(':') {
            last = name.to_owned();
            out.insert(last.clone(), value.trim().to_owned());
        }
    }
    out
}

/// The lines that the program keeps of one type's modules.
fn expected(enabled: &[(String, Profile)], kind: &str, field: &str) -> String {
    let mut out = String::new();
    for block in ["Primary", "Additional"] {
        let mut position = 0_usize;
        for (name, profile) in enabled {
            let quiet = kind == "session-noninteractive"
                && profile
                    .get("Session-Interactive-Only")
                    .is_some_and(|value| value == "yes");
            if quiet || profile.get(&format!("{field}-Type")).map(String::as_str) != Some(block) {
                continue;
            }
            let initial = profile
                .get(&format!("{field}-Initial"))
                .filter(|text| position == 0 && !text.is_empty());
            let text = initial.or_else(|| profile.get(field));
            position = position.saturating_add(1);
            out.push_str(&format!("Module: {name}\n"));
            out.push_str(text.map_or("", String::as_str));
        }
        if block == "Primary" && position == 0 {
            out.push_str("Module: null\n[default=1]\t\t\tpam_permit.so\n");
        }
    }
    out
}

/// The lines of a text, their blanks made one.
fn normal(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

pub(crate) fn pam_auth_update(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    if words.iter().skip(1).any(|word| word != b"--package") {
        return shell.usage(b"pam-auth-update", "only --package is interpreted");
    }
    let mut profiles: Vec<(String, Profile)> = Vec::new();
    for name in shell.files.list(PROFILES)?.unwrap_or_default() {
        if name.ends_with(b"~") || (name.starts_with(b"#") && name.ends_with(b"#")) {
            continue;
        }
        let text = shell.files.read(&[PROFILES, b"/", &name].concat())?;
        let profile = parse(&text.unwrap_or_default());
        let disabled = profile
            .get("Disabled")
            .is_some_and(|value| !matches!(value.as_str(), "" | "no" | "0"));
        if !disabled {
            profiles.push((String::from_utf8_lossy(&name).into_owned(), profile));
        }
    }
    profiles.sort_by_key(|(name, profile)| {
        let priority: i64 = profile
            .get("Priority")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        Reverse((priority, name.clone()))
    });
    let seen = shell
        .files
        .read(format!("{SAVED}/seen").as_bytes())?
        .unwrap_or_default();
    let names: String = profiles
        .iter()
        .map(|(name, _)| format!("{name}\n"))
        .collect();
    if seen != names.as_bytes() {
        return shell.usage(b"pam-auth-update", "profiles came or went");
    }
    let mut saved = BTreeMap::new();
    for (kind, _) in TYPES {
        let text = shell.files.read(format!("{SAVED}/{kind}").as_bytes())?;
        let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
        saved.insert(*kind, text);
    }
    let enabled: Vec<(String, Profile)> = profiles
        .into_iter()
        .filter(|(name, _)| {
            let mark = format!("Module: {name}");
            saved
                .values()
                .any(|text| text.lines().any(|line| line == mark))
        })
        .collect();
    if enabled.is_empty() {
        return shell.usage(b"pam-auth-update", "no profile is enabled");
    }
    for (kind, field) in TYPES {
        let text = saved.get(kind).map_or("", String::as_str);
        if normal(text) != normal(&expected(&enabled, kind, field)) {
            return shell.usage(b"pam-auth-update", "profiles changed");
        }
    }
    Ok(0)
}
