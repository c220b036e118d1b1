//! `dpkg-query`.

use dormouse_filesystem::Follow;

use crate::commands::text::lines;
use crate::shell::Shell;
use crate::shell::pattern::Pattern;
use crate::stop::Run;
use crate::world::{PackageView, World};

/// A record and its package's name.
type Found = (String, PackageView);

pub(crate) fn dpkg_query(shell: &mut Shell<'_>, words: &[Vec<u8>]) -> Run<i32> {
    let mut action: Option<Vec<u8>> = None;
    let mut format: Option<Vec<u8>> = None;
    let mut operands: Vec<Vec<u8>> = Vec::new();
    let mut rest = words.get(1..).unwrap_or_default().iter();
    while let Some(word) = rest.next() {
        match word.as_slice() {
            b"-f" | b"--showformat" => format = rest.next().cloned(),
            b"--" => operands.extend(rest.by_ref().cloned()),
            b"--no-pager" | b"--admindir=/var/lib/dpkg" => {}
            word if word.starts_with(b"--showformat=") => {
                format = word.get(13..).map(<[u8]>::to_vec);
            }
            word if word.starts_with(b"-f=") && word.len() > 2 => {
                format = word.get(3..).map(<[u8]>::to_vec);
            }
            word if word.starts_with(b"-f") => format = word.get(2..).map(<[u8]>::to_vec),
            // -Wf='...'
            word if word.starts_with(b"-Wf") => {
                action = Some(b"-W".to_vec());
                let text = word.get(3..).unwrap_or_default();
                let text = text.strip_prefix(b"=").unwrap_or(text);
                format = if text.is_empty() {
                    rest.next().cloned()
                } else {
                    Some(text.to_vec())
                };
            }
            word if word.starts_with(b"-") && word.len() > 1 => {
                if action.is_some() {
                    return shell.usage(b"dpkg-query", "the option is not interpreted");
                }
                action = Some(word.to_vec());
            }
            word => operands.push(word.to_vec()),
        }
    }
    match action.as_deref() {
        Some(b"-W" | b"--show") => show(shell, format.as_deref(), &operands),
        Some(b"-L" | b"--listfiles") => list_files(shell, &operands),
        Some(b"-S" | b"--search") => search(shell, &operands),
        Some(b"-s" | b"--status") => status(shell, &operands),
        Some(b"--control-path" | b"-c") => control_path(shell, &operands),
        Some(b"-l" | b"--list") => list(shell, &operands),
        _ => shell.usage(b"dpkg-query", "the action is not interpreted"),
    }
}

/// Whether anything is known of the package beyond its name.
fn is_informative(package: &PackageView) -> bool {
    package.state != "not-installed" || !matches!(package.want.as_str(), "unknown" | "")
}

/// The records that a name such as `libc6`, `libc6:amd64` or `lib*` means.
fn matching(world: &World, operand: &str) -> Vec<Found> {
    let (name, architecture) = match operand.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (operand, None),
    };
    let is_pattern = name.contains(['*', '?', '[', '\\']);
    let fits = |package: &PackageView| {
        architecture.is_none_or(|wanted| {
            wanted == package.architecture
                || wanted == "any"
                || (wanted == "native"
                    && (package.architecture == world.architecture
                        || package.architecture == "all"))
                || (package.architecture == "all" && wanted == world.architecture)
        })
    };
    let mut out = Vec::new();
    if is_pattern {
        let pattern = Pattern::plain(name.as_bytes());
        for (known, packages) in &world.packages {
            if pattern.matches(known.as_bytes()) {
                out.extend(
                    packages
                        .iter()
                        .filter(|package| fits(package))
                        .map(|package| (known.clone(), package.clone())),
                );
            }
        }
    } else if let Some(packages) = world.packages.get(name) {
        out.extend(
            packages
                .iter()
                .filter(|package| fits(package))
                .map(|package| (name.to_owned(), package.clone())),
        );
    }
    out.retain(|(_, package)| is_informative(package));
    out
}

/// The one record that a name means, as `dpkg -L` and `-s` resolve it.
fn one(world: &World, operand: &str) -> Option<Found> {
    let found = matching(world, operand);
    let native = found
        .iter()
        .find(|(_, package)| {
            package.state != "not-installed"
                && (package.architecture == world.architecture || package.architecture == "all")
        })
        .cloned();
    native.or_else(|| found.into_iter().next())
}

fn text_of(operand: &[u8]) -> String {
    String::from_utf8_lossy(operand).into_owned()
}

/// `name`, or `name:arch` where the name alone is ambiguous.
fn display_name(world: &World, name: &str, package: &PackageView) -> String {
    let foreign = !package.architecture.is_empty()
        && package.architecture != "all"
        && package.architecture != world.architecture;
    if package.multi_arch_same || foreign {
        format!("{name}:{}", package.architecture)
    } else {
        name.to_owned()
    }
}

fn abbreviation(package: &PackageView) -> String {
    let want = package.want.chars().next().unwrap_or('u');
    let state = match package.state.as_str() {
        "not-installed" => 'n',
        "config-files" => 'c',
        "half-installed" => 'H',
        "unpacked" => 'U',
        "half-configured" => 'F',
        "triggers-awaited" => 'W',
        "triggers-pending" => 't',
        _ => 'i',
    };
    let error = if package.error == "reinstreq" {
        'R'
    } else {
        ' '
    };
    format!("{want}{state}{error}")
}

fn conffiles(package: &PackageView) -> String {
    let mut out = String::new();
    for conffile in &package.conffiles {
        out.push_str(&format!("\n {} {}", conffile.path, conffile.md5));
        if conffile.obsolete {
            out.push_str(" obsolete");
        }
        if conffile.remove_on_upgrade {
            out.push_str(" remove-on-upgrade");
        }
    }
    out
}

/// A field of a record by its name; `None` when dpkg would have to be asked.
fn field(world: &World, name: &str, found: &Found) -> Option<String> {
    let (package_name, package) = found;
    let version = || package.version.clone().unwrap_or_default();
    let part = |from_source: bool| {
        let source = package.fields.get("Source").cloned().unwrap_or_default();
        let (source_name, source_version) = match source.split_once(" (") {
            Some((name, version)) => (name.to_owned(), version.trim_end_matches(')').to_owned()),
            None if source.is_empty() => (package_name.clone(), version()),
            None => (source, version()),
        };
        if from_source {
            source_name
        } else {
            source_version
        }
    };
    Some(match name.to_ascii_lowercase().as_str() {
        "package" => package_name.clone(),
        "binary:package" => display_name(world, package_name, package),
        "version" => version(),
        "architecture" => package.architecture.clone(),
        "status" => format!("{} {} {}", package.want, package.error, package.state),
        "db:status-abbrev" => abbreviation(package),
        "db:status-want" => package.want.clone(),
        "db:status-status" => package.state.clone(),
        "db:status-eflag" => package.error.clone(),
        "config-version" => package.config_version.clone().unwrap_or_default(),
        "conffiles" => conffiles(package),
        "source:package" => part(true),
        "source:version" => part(false),
        "source:upstream-version" => {
            let version = part(false);
            let version = version
                .split_once(':')
                .map_or(version.as_str(), |(_, rest)| rest);
            version
                .rsplit_once('-')
                .map_or(version, |(upstream, _)| upstream)
                .to_owned()
        }
        other if other.starts_with("db-") || other.starts_with("db:") => return None,
        other => package
            .fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(other))
            .map(|(_, value)| value.clone())
            .unwrap_or_default(),
    })
}

fn formatted(shell: &Shell<'_>, format: &[u8], found: &Found) -> Run<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = format;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' => {
                let Some((&next, after)) = rest.split_first() else {
                    break;
                };
                rest = after;
                out.push(match next {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    other => other,
                });
            }
            b'$' if rest.first() == Some(&b'{') => {
                let Some(end) = rest.iter().position(|&byte| byte == b'}') else {
                    return shell.usage(b"dpkg-query", "the format is not closed");
                };
                let inside = text_of(rest.get(1..end).unwrap_or_default());
                rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
                let (name, width) = match inside.split_once(';') {
                    Some((name, width)) => (name, width.parse::<i32>().unwrap_or(0)),
                    None => (inside.as_str(), 0),
                };
                let Some(value) = field(shell.world, name, found) else {
                    return shell
                        .usage(b"dpkg-query", format!("the field {name} is not known here"));
                };
                let wide = usize::try_from(width.unsigned_abs().min(10_000)).unwrap_or(0);
                let padded = match width {
                    0 => value,
                    1.. => format!("{value:>wide$}"),
                    _ => format!("{value:<wide$}"),
                };
                out.extend_from_slice(padded.as_bytes());
            }
            byte => out.push(byte),
        }
    }
    Ok(out)
}

fn show(shell: &mut Shell<'_>, format: Option<&[u8]>, operands: &[Vec<u8>]) -> Run<i32> {
    let format = format
        .unwrap_or(b"${binary:Package}\\t${Version}\\n")
        .to_vec();
    let world = shell.world;
    let mut all: Vec<Found> = Vec::new();
    let mut status = 0;
    if operands.is_empty() {
        all = matching(world, "*");
        all.retain(|(_, package)| package.state != "not-installed");
    }
    for operand in operands {
        let operand = text_of(operand);
        let found = matching(world, &operand);
        if found.is_empty() {
            shell.complain(
                b"dpkg-query",
                format!("no packages found matching {operand}"),
            )?;
            status = 1;
        }
        for found in found {
            if !all.contains(&found) {
                all.push(found);
            }
        }
    }
    all.sort_by(|a, b| {
        a.0.cmp(&b.0)
            .then_with(|| a.1.architecture.cmp(&b.1.architecture))
    });
    let mut out = Vec::new();
    for found in &all {
        shell.files.budget.step(1)?;
        out.extend(formatted(shell, &format, found)?);
    }
    shell.out(&out)?;
    Ok(status)
}

/// The file of `info/` that belongs to a record.
fn info_path(name: &str, package: &PackageView, suffix: &str) -> String {
    if package.multi_arch_same {
        format!(
            "/var/lib/dpkg/info/{name}:{}.{suffix}",
            package.architecture
        )
    } else {
        format!("/var/lib/dpkg/info/{name}.{suffix}")
    }
}

fn list_files(shell: &mut Shell<'_>, operands: &[Vec<u8>]) -> Run<i32> {
    let mut status = 0;
    let diversions = super::super::divert::read(shell)?;
    for operand in operands {
        let operand = text_of(operand);
        let installed = one(shell.world, &operand).filter(|(_, package)| {
            !matches!(package.state.as_str(), "not-installed" | "config-files")
        });
        let Some((name, package)) = installed else {
            shell.complain(
                b"dpkg-query",
                format!("package '{operand}' is not installed"),
            )?;
            status = 1;
            continue;
        };
        let path = info_path(&name, &package, "list");
        let Ok(text) = shell.files.read(path.as_bytes())? else {
            return shell.usage(b"dpkg-query", "the package has no file list");
        };
        let mut out = Vec::new();
        for line in lines(&text) {
            out.extend_from_slice(line);
            out.push(b'\n');
            for diversion in &diversions {
                if diversion.from == line {
                    let by = &diversion.package;
                    let note: Vec<u8> = if by == b":" {
                        [b"locally diverted to: ", &diversion.to[..]].concat()
                    } else if by == name.as_bytes() {
                        [b"package diverts others to: ", &diversion.to[..]].concat()
                    } else {
                        [b"diverted by ", &by[..], b" to: ", &diversion.to].concat()
                    };
                    out.extend_from_slice(&note);
                    out.push(b'\n');
                }
            }
        }
        shell.out(&out)?;
    }
    Ok(status)
}

fn search(shell: &mut Shell<'_>, operands: &[Vec<u8>]) -> Run<i32> {
    let mut status = 0;
    let installed: Vec<Found> = matching(shell.world, "*")
        .into_iter()
        .filter(|(_, package)| !matches!(package.state.as_str(), "not-installed" | "config-files"))
        .collect();
    for operand in operands {
        let text = match operand.strip_suffix(b"/") {
            Some(stripped) if !stripped.is_empty() => stripped.to_vec(),
            _ => operand.clone(),
        };
        let pattern = if text.starts_with(b"/") {
            None
        } else if text.iter().any(|byte| b"*?[".contains(byte)) {
            Some(Pattern::plain(&text))
        } else {
            Some(Pattern::plain(&[b"*", &text[..], b"*"].concat()))
        };
        let pattern = match pattern {
            None if text.iter().any(|byte| b"*?[\\".contains(byte)) => Some(Pattern::plain(&text)),
            pattern => pattern,
        };
        // Owners by path, in the order the paths are met.
        let mut owners: std::collections::BTreeMap<Vec<u8>, Vec<String>> =
            std::collections::BTreeMap::new();
        for (name, package) in &installed {
            let path = info_path(name, package, "list");
            let Ok(list) = shell.files.read(path.as_bytes())? else {
                continue;
            };
            for line in lines(&list) {
                shell.files.budget.step(1)?;
                let fits = match &pattern {
                    Some(pattern) => pattern.matches(line),
                    None => line == text,
                };
                if fits {
                    owners.entry(line.to_vec()).or_default().push(display_name(
                        shell.world,
                        name,
                        package,
                    ));
                }
            }
        }
        if owners.is_empty() {
            let what = format!("no path found matching pattern {}", text_of(operand));
            shell.complain(b"dpkg-query", what)?;
            status = 1;
        }
        for (path, names) in owners {
            let line = [names.join(", ").as_bytes(), b": ", &path[..], b"\n"].concat();
            shell.out(&line)?;
        }
    }
    Ok(status)
}

fn status(shell: &mut Shell<'_>, operands: &[Vec<u8>]) -> Run<i32> {
    let mut code = 0;
    for operand in operands {
        let operand = text_of(operand);
        let Some((name, package)) = one(shell.world, &operand) else {
            let text =
                format!("package '{operand}' is not installed and no information is available");
            shell.complain(b"dpkg-query", text)?;
            code = 1;
            continue;
        };
        let mut out = format!(
            "Package: {name}\nStatus: {} {} {}\n",
            package.want, package.error, package.state
        );
        for (field, value) in &package.fields {
            out.push_str(&format!("{field}: {value}\n"));
        }
        out.push_str(&format!("Architecture: {}\n", package.architecture));
        if let Some(version) = &package.version {
            out.push_str(&format!("Version: {version}\n"));
        }
        if let Some(version) = &package.config_version {
            out.push_str(&format!("Config-Version: {version}\n"));
        }
        if !package.conffiles.is_empty() {
            out.push_str(&format!("Conffiles:{}\n", conffiles(&package)));
        }
        out.push('\n');
        shell.out(out.as_bytes())?;
    }
    Ok(code)
}

fn control_path(shell: &mut Shell<'_>, operands: &[Vec<u8>]) -> Run<i32> {
    let [operand, file] = operands else {
        return shell.usage(b"dpkg-query", "--control-path of one file is interpreted");
    };
    let Some((name, package)) = one(shell.world, &text_of(operand)) else {
        shell.complain(b"dpkg-query", "the package is not installed")?;
        return Ok(1);
    };
    let path = info_path(&name, &package, &text_of(file));
    if shell.files.exists(path.as_bytes(), Follow::Links)? {
        shell.out(format!("{path}\n").as_bytes())?;
    }
    Ok(0)
}

/// `dpkg -l`, for what scripts ask of it: the lines of the table, not its widths.
fn list(shell: &mut Shell<'_>, operands: &[Vec<u8>]) -> Run<i32> {
    let mut status = 0;
    let mut all: Vec<Found> = Vec::new();
    for operand in operands {
        let found = matching(shell.world, &text_of(operand));
        if found.is_empty() {
            let text = format!("no packages found matching {}", text_of(operand));
            shell.complain(b"dpkg-query", text)?;
            status = 1;
        }
        all.extend(found);
    }
    if operands.is_empty() || !all.is_empty() {
        return shell.usage(b"dpkg-query", "the table of -l is not interpreted");
    }
    Ok(status)
}
