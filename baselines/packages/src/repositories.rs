//! The package repositories that a guest is set up to ask, as its files say it. None of them is asked here.

use std::collections::BTreeSet;

use dormouse_block::{Error, GuestPath, Result};
use dormouse_filesystem::Guest;
use serde::{Deserialize, Serialize};

use crate::cataloger::files_of;
use crate::deb822::paragraphs;
use crate::{Family, pacman};

/// Largest file read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Files and repositories of one guest.
const MAX_FILES: usize = 500;
const MAX_REPOSITORIES: usize = 5_000;

/// One repository in one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConfiguredRepository {
    /// Whose packages it has.
    pub family: Family,
    /// The file that names it.
    pub file: GuestPath,
    /// Its name there: an rpm repository's id, a pacman repository's name, an apk tag; empty where it has none.
    pub name: String,
    /// Where it is, without user names and passwords: base addresses, else lists of mirrors.
    pub uris: Vec<String>,
    /// apt: the suites asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<String>,
    /// apt: the components of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// Whether it is asked at all.
    pub enabled: bool,
}

/// What was found, and what could not be read.
#[derive(Debug, Default)]
pub(crate) struct Configured {
    pub(crate) repositories: BTreeSet<ConfiguredRepository>,
    pub(crate) errors: Vec<Error>,
}

/// A file's form, and how one is read: `(text, what is known of all in it, where they go)`.
type Form = fn(&str, &ConfiguredRepository, &mut dyn FnMut(ConfiguredRepository));

/// Single files, and folders of files with an ending.
const FILES: &[(&str, Family, Form)] = &[
    ("/etc/apt/sources.list", Family::Dpkg, one_line),
    ("/etc/apk/repositories", Family::Apk, apk),
];
const FOLDERS: &[(&str, &[u8], Family, Form)] = &[
    ("/etc/apt/sources.list.d", b".list", Family::Dpkg, one_line),
    ("/etc/apt/sources.list.d", b".sources", Family::Dpkg, deb822),
    ("/etc/yum.repos.d", b".repo", Family::Rpm, ini),
    ("/etc/zypp/repos.d", b".repo", Family::Rpm, ini),
    ("/etc/apk/repositories.d", b".list", Family::Apk, apk),
];

impl Configured {
    pub(crate) fn read(guest: &Guest) -> Self {
        let mut configured = Self::default();
        for &(path, family, form) in FILES {
            if let Some(path) = configured.ok(path_of(path)) {
                configured.file(guest, &path, family, form);
            }
        }
        for &(folder, ending, family, form) in FOLDERS {
            let files = path_of(folder)
                .and_then(|folder| files_of(guest, &folder, |name| name.ends_with(ending)));
            for path in configured
                .ok(files)
                .unwrap_or_default()
                .iter()
                .take(MAX_FILES)
            {
                configured.file(guest, path, family, form);
            }
        }
        configured.pacman(guest);
        configured
    }

    fn ok<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn add(&mut self, repository: ConfiguredRepository) {
        if self.repositories.len() < MAX_REPOSITORIES {
            self.repositories.insert(repository);
        }
    }

    fn text(&mut self, guest: &Guest, path: &GuestPath) -> Option<String> {
        let bytes = self.ok(guest.read(path, MAX_FILE)).flatten()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn file(&mut self, guest: &Guest, path: &GuestPath, family: Family, form: Form) {
        let Some(text) = self.text(guest, path) else {
            return;
        };
        let known = ConfiguredRepository {
            family,
            file: path.clone(),
            name: String::new(),
            uris: Vec::new(),
            suites: Vec::new(),
            components: Vec::new(),
            enabled: true,
        };
        form(&text, &known, &mut |repository| self.add(repository));
    }

    fn pacman(&mut self, guest: &Guest) {
        let Some(file) = self.ok(path_of(pacman::CONFIG)) else {
            return;
        };
        let Some(config) = self.ok(pacman::Config::read(guest)) else {
            return;
        };
        for section in config.repositories.into_iter().take(MAX_FILES) {
            let mut uris = section.servers;
            for included in section.included.iter().take(MAX_FILES) {
                let Some(text) = self
                    .ok(path_of(included))
                    .and_then(|path| self.text(guest, &path))
                else {
                    continue;
                };
                let servers = text.lines().filter_map(|line| {
                    let (key, value) = line.trim().split_once('=')?;
                    (key.trim() == "Server").then(|| value.trim().to_owned())
                });
                uris.extend(servers.take(MAX_FILES));
            }
            self.add(ConfiguredRepository {
                family: Family::Pacman,
                file: file.clone(),
                name: section.name,
                uris: uris.iter().map(|uri| public(uri)).collect(),
                suites: Vec::new(),
                components: Vec::new(),
                enabled: true,
            });
        }
    }
}

fn path_of(path: &str) -> Result<GuestPath> {
    GuestPath::new(path).map_err(|error| Error::corrupt("bad path").because(error))
}

/// An address without the user name and password that some carry.
fn public(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// sources.list(5), "one-line-style format".
fn one_line(text: &str, known: &ConfiguredRepository, add: &mut dyn FnMut(ConfiguredRepository)) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line
            .strip_prefix("deb")
            .filter(|rest| rest.starts_with([' ', '\t']))
        else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let mut words = rest.split_ascii_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            continue;
        };
        add(ConfiguredRepository {
            uris: vec![public(uri)],
            suites: vec![suite.to_owned()],
            components: words.map(str::to_owned).collect(),
            ..known.clone()
        });
    }
}

/// sources.list(5), "deb822-style format".
fn deb822(text: &str, known: &ConfiguredRepository, add: &mut dyn FnMut(ConfiguredRepository)) {
    for (_, paragraph) in paragraphs(text.as_bytes()) {
        let field = |name: &str| -> String {
            let value = paragraph.get(name).ok().flatten().unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        if !words(&field("Types")).contains(&"deb".to_owned()) {
            continue;
        }
        let disabled = ["no", "false", "off", "without", "disable"];
        add(ConfiguredRepository {
            uris: words(&field("URIs"))
                .iter()
                .map(|uri| public(uri))
                .collect(),
            suites: words(&field("Suites")),
            components: words(&field("Components")),
            enabled: !disabled.contains(&field("Enabled").trim()),
            ..known.clone()
        });
    }
}

/// The sections of yum.conf(5), which dnf and zypper read too.
fn ini(text: &str, known: &ConfiguredRepository, add: &mut dyn FnMut(ConfiguredRepository)) {
    let mut current: Option<(ConfiguredRepository, Vec<String>)> = None;
    let mut in_base = false;
    let mut finish = |one: Option<(ConfiguredRepository, Vec<String>)>| {
        if let Some((mut repository, mirrors)) = one {
            if repository.uris.is_empty() {
                repository.uris = mirrors;
            }
            add(repository);
        }
    };
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            finish(current.take());
            let name = name.to_owned();
            current = (name != "main").then(|| {
                (
                    ConfiguredRepository {
                        name,
                        ..known.clone()
                    },
                    Vec::new(),
                )
            });
            in_base = false;
            continue;
        }
        let Some((repository, mirrors)) = &mut current else {
            continue;
        };
        let addresses = |value: &str| -> Vec<String> {
            let all = value.split([',', ' ', '\t']).filter(|one| !one.is_empty());
            all.map(public).collect()
        };
        // A line that begins with a blank goes on with the value before it.
        if line.starts_with([' ', '\t']) && in_base {
            repository.uris.extend(addresses(trimmed));
            continue;
        }
        let Some((key, value)) = trimmed.split_once('=') else {
            continue;
        };
        let value = value.trim();
        in_base = key.trim() == "baseurl";
        match key.trim() {
            "baseurl" => repository.uris.extend(addresses(value)),
            "mirrorlist" | "metalink" => mirrors.extend(addresses(value)),
            "enabled" => repository.enabled = !matches!(value, "0" | "no" | "false" | "off"),
            _ => {}
        }
    }
    finish(current);
}

/// apk-repositories(5): `[@tag] address`.
fn apk(text: &str, known: &ConfiguredRepository, add: &mut dyn FnMut(ConfiguredRepository)) {
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = match line.strip_prefix('@') {
            Some(tagged) => tagged.split_once([' ', '\t']).unwrap_or((tagged, "")),
            None => ("", line),
        };
        let Some(uri) = rest.split_ascii_whitespace().next() else {
            continue;
        };
        add(ConfiguredRepository {
            name: name.to_owned(),
            uris: vec![public(uri)],
            ..known.clone()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_filesystem::MemoryTree;

    #[test]
    fn every_family_s_files_are_read() {
        let mut tree = MemoryTree::new();
        tree.file(
            "/etc/apt/sources.list",
            b"# deb http://no.example x y\ndeb [arch=amd64 signed-by=/k] https://me:secret@deb.example/debian bookworm main contrib # c\n\
            deb-src http://deb.example/debian bookworm main\ndeb http://flat.example ./\n",
        )
        .file(
            "/etc/apt/sources.list.d/own.sources",
            b"Types: deb deb-src\nURIs: http://a.example http://b.example\nSuites: s s-updates\nComponents: main\nEnabled: no\n\n\
            Types: deb-src\nURIs: http://c.example\nSuites: s\n",
        )
        .file("/etc/apt/sources.list.d/note.txt", b"deb http://d.example s main\n")
        .file(
            "/etc/yum.repos.d/a.repo",
            b"[main]\nx=1\n[baseos]\nname=Base\nbaseurl=https://u:p@r.example/$releasever\n  https://s.example/\nenabled=1\n\
            [source]\nmirrorlist=https://m.example/?a=b\nenabled=0\n",
        )
        .file("/etc/zypp/repos.d/oss.repo", b"[oss]\nbaseurl=http://z.example/\n")
        .file("/etc/apk/repositories", b"https://dl.example/alpine/v3.19/main\n@edge https://dl.example/edge\n#https://no.example\n")
        .file("/etc/pacman.conf", b"[options]\n[core]\nInclude = /etc/pacman.d/mirrorlist\n")
        .file("/etc/pacman.d/mirrorlist", b"#Server = https://no.example\nServer = https://p.example/$repo/os/$arch\n");
        let configured = Configured::read(&Guest::of(tree));
        assert!(configured.errors.is_empty(), "{:?}", configured.errors);
        let lines: Vec<_> = configured
            .repositories
            .iter()
            .map(|one| {
                format!(
                    "{} {} [{}] {} {} {}",
                    one.family,
                    one.name,
                    one.uris.join(" "),
                    one.suites.join(" "),
                    one.components.join(" "),
                    one.enabled
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "dpkg  [http://flat.example] ./  true",
                "dpkg  [https://deb.example/debian] bookworm main contrib true",
                "dpkg  [http://a.example http://b.example] s s-updates main false",
                "rpm baseos [https://r.example/$releasever https://s.example/]   true",
                "rpm source [https://m.example/?a=b]   false",
                "rpm oss [http://z.example/]   true",
                "apk  [https://dl.example/alpine/v3.19/main]   true",
                "apk edge [https://dl.example/edge]   true",
                "pacman core [https://p.example/$repo/os/$arch]   true",
            ]
        );
    }
}
