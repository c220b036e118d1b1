//! Debian's helpers for PostgreSQL's clusters, as the servers' maintainer scripts call them. No cluster is running.

use dormouse_filesystem::Follow;
use dormouse_overlay::DraftNode;

use super::accounts;
use super::text::lines;
use crate::call::Reason;
use crate::shell::Shell;
use crate::stop::Run;

/// One cluster as its settings describe it.
struct Cluster {
    version: String,
    name: String,
    port: String,
    folder: String,
    owner: String,
    log: String,
    has_binaries: bool,
}

/// The value of a setting of `postgresql.conf`, the last one counts; quotes taken off.
fn setting(text: &[u8], wanted: &str) -> Option<String> {
    let mut out = None;
    for line in lines(text) {
        let line = String::from_utf8_lossy(line).into_owned();
        let line = line.trim();
        let name_end = line
            .find(|c: char| !c.is_ascii_alphanumeric() && !"_.-".contains(c))
            .unwrap_or(line.len());
        let (name, rest) = line.split_at(name_end);
        if !name.eq_ignore_ascii_case(wanted) {
            continue;
        }
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        let value = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next().unwrap_or_default(),
            None => rest
                .split(|c: char| c.is_whitespace() || c == '#')
                .next()
                .unwrap_or_default(),
        };
        out = Some(value.to_owned());
    }
    out
}

fn is_version(name: &str) -> bool {
    let mut parts = name.split('.');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.next().is_some_and(digits) && parts.next().is_none_or(digits) && parts.next().is_none()
}

/// The text of a cluster's settings; those that other files may change are refused.
fn settings(shell: &mut Shell<'_>, version: &str, name: &str) -> Run<Option<Vec<u8>>> {
    let folder = format!("/etc/postgresql/{version}/{name}");
    let Ok(text) = shell
        .files
        .read(format!("{folder}/postgresql.conf").as_bytes())?
    else {
        return Ok(None);
    };
    let more = shell
        .files
        .list(format!("{folder}/conf.d").as_bytes())?
        .unwrap_or_default();
    let includes = setting(&text, "include").is_some()
        || setting(&text, "include_if_exists").is_some()
        || more.iter().any(|file| file.ends_with(b".conf"));
    if includes
        || setting(&text, "logging_collector").is_some()
        || setting(&text, "log_destination").is_some()
    {
        return shell.usage(b"pg_lsclusters", "a cluster's settings are not interpreted");
    }
    Ok(Some(text))
}

fn clusters(shell: &mut Shell<'_>) -> Run<Vec<Cluster>> {
    let mut versions: Vec<String> = shell
        .files
        .list(b"/etc/postgresql")?
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| String::from_utf8(name).ok())
        .filter(|name| is_version(name))
        .collect();
    versions.sort_by_key(|version| {
        let parts: Vec<u32> = version
            .split('.')
            .map(|part| part.parse().unwrap_or(u32::MAX))
            .collect();
        parts
    });
    let mut out = Vec::new();
    for version in versions {
        let names = shell
            .files
            .list(format!("/etc/postgresql/{version}").as_bytes())?
            .unwrap_or_default();
        for name in names {
            let Ok(name) = String::from_utf8(name) else {
                continue;
            };
            let Some(text) = settings(shell, &version, &name)? else {
                continue;
            };
            let folder = setting(&text, "data_directory")
                .unwrap_or_else(|| format!("/var/lib/postgresql/{version}/{name}"));
            let owner = match shell.files.look(folder.as_bytes(), Follow::Links)? {
                None => "<unknown>".to_owned(),
                Some(found) => accounts::user_name(shell, found.attributes.uid)?
                    .map(|name| String::from_utf8_lossy(&name).into_owned())
                    .unwrap_or_default(),
            };
            let link = format!("/etc/postgresql/{version}/{name}/log");
            let log = match shell.files.look(link.as_bytes(), Follow::No)? {
                Some(found) => match found.node {
                    DraftNode::Symlink(target) => String::from_utf8_lossy(&target).into_owned(),
                    _ => return shell.usage(b"pg_lsclusters", "a cluster's log is no link"),
                },
                None => format!("/var/log/postgresql/postgresql-{version}-{name}.log"),
            };
            let program = format!("/usr/lib/postgresql/{version}/bin/postgres");
            let has_binaries = shell.files.exists(program.as_bytes(), Follow::Links)?;
            out.push(Cluster {
                port: setting(&text, "port").unwrap_or_else(|| "5432".to_owned()),
                version: version.clone(),
                name,
                folder,
                owner,
                log,
                has_binaries,
            });
        }
    }
    Ok(out)
}

/// `pg_lsclusters -h`.
pub(crate) fn pg_lsclusters(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    if !matches!(words, [_, option] if option == b"-h" || option == b"--no-header") {
        return shell.usage(b"pg_lsclusters", "only -h is interpreted");
    }
    let rows: Vec<[String; 7]> = clusters(shell)?
        .into_iter()
        .map(|cluster| {
            let status = if cluster.has_binaries {
                "down"
            } else {
                "down,binaries_missing"
            };
            [
                cluster.version,
                cluster.name,
                cluster.port,
                status.to_owned(),
                cluster.owner,
                cluster.folder,
                cluster.log,
            ]
        })
        .collect();
    let mut widths = [1_usize; 7];
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.len());
        }
    }
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(index, (text, width))| {
                if index == 6 {
                    text.clone()
                } else {
                    format!("{text:<width$}")
                }
            })
            .collect();
        shell.out(format!("{}\n", line.join(" ")).as_bytes())?;
    }
    Ok(0)
}

/// `pg_conftool -s VERSION CLUSTER show SETTING`.
pub(crate) fn pg_conftool(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let words: Vec<String> = words
        .iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [_, "-s", version, cluster, "show", name] = words.as_slice() else {
        return shell.usage(
            b"pg_conftool",
            "only -s VERSION CLUSTER show is interpreted",
        );
    };
    let Some(text) = settings(shell, version, cluster)? else {
        return Ok(1);
    };
    match setting(&text, name) {
        Some(value) => {
            shell.out(format!("{value}\n").as_bytes())?;
            Ok(0)
        }
        None => {
            shell.complain(b"pg_conftool", format!("Notice: {name} not found"))?;
            Ok(1)
        }
    }
}

/// `pg_controldata FOLDER`, for the server's own scripts: they ask for its version numbers and nothing else of it.
pub(crate) fn pg_controldata(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let [_, folder] = words else {
        return shell.usage(b"pg_controldata", "one folder is interpreted");
    };
    if !shell.call.package.starts_with("postgresql-") {
        return shell.refuse(
            Reason::Command,
            b"pg_controldata",
            "is a program that is not interpreted",
        );
    }
    let path = [&folder[..], b"/global/pg_control"].concat();
    let Ok(bytes) = shell.files.read(&path)? else {
        shell.complain(b"pg_controldata", "could not open the control file")?;
        return Ok(1);
    };
    // ControlFileData: the system's identifier, then the versions of this file and of the catalogue.
    let number = |at: usize| {
        let part = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(part.try_into().ok()?))
    };
    let (Some(file), Some(catalogue)) = (number(8), number(12)) else {
        return shell.usage(b"pg_controldata", "the control file is too short");
    };
    let text = format!(
        "pg_control version number:            {file}\nCatalog version number:               {catalogue}\n"
    );
    shell.out(text.as_bytes())?;
    Ok(0)
}

/// `run-upgrade-scripts`: Debian ships none; one of the administrator's would need the server.
pub(crate) fn run_upgrade_scripts(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    let scripts = shell
        .files
        .list(b"/usr/share/postgresql-common/upgrade-scripts")?
        .unwrap_or_default();
    if scripts
        .iter()
        .any(|name| name.first().is_some_and(u8::is_ascii_digit))
    {
        return shell.refuse(
            Reason::Running,
            b"run-upgrade-scripts",
            "there are scripts for a running server",
        );
    }
    Ok(0)
}

/// `pg_updatedicts` where no dictionary is installed: what it made of earlier ones goes.
pub(crate) fn pg_updatedicts(shell: &mut Shell<'_>, _: &[Vec<u8>]) -> Run<i32> {
    for pattern in [
        "/usr/share/hunspell/*.aff",
        "/usr/share/myspell/dicts/*.aff",
    ] {
        for file in shell.glob_plain(pattern.as_bytes())? {
            if shell
                .files
                .look(&file, Follow::No)?
                .is_some_and(|found| !matches!(found.node, DraftNode::Symlink(_)))
            {
                return shell.usage(b"pg_updatedicts", "making dictionaries is not interpreted");
            }
        }
    }
    let cache = b"/var/cache/postgresql/dicts";
    if super::make::make_parents(shell, cache, 0o755, Some(0o755))?.is_err() {
        return Ok(1);
    }
    let mut text =
        b"Building PostgreSQL dictionaries from installed myspell/hunspell packages...\nRemoving obsolete dictionary files:\n"
            .to_vec();
    for pattern in [
        "/var/cache/postgresql/dicts/*",
        "/usr/share/postgresql/*/tsearch_data/*.affix",
        "/usr/share/postgresql/*/tsearch_data/*.dict",
    ] {
        for file in shell.glob_plain(pattern.as_bytes())? {
            let Some(found) = shell.files.look(&file, Follow::No)? else {
                continue;
            };
            let is_link = matches!(found.node, DraftNode::Symlink(_));
            if file.starts_with(cache) || is_link {
                text.extend_from_slice(&[b"  ", &file[..], b"\n"].concat());
                let _ = shell.files.unlink(&file)?;
            }
        }
    }
    shell.out(&text)?;
    Ok(0)
}
