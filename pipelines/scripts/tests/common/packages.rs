//! Package files and the calls of scripts that upgrading to them makes.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dormouse_scripts::{ScriptName, World};

/// A package file's control files.
#[derive(Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    pub(crate) scripts: BTreeMap<String, Vec<u8>>,
}

pub(crate) fn debs_below(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|ext| ext == "deb") {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

pub(crate) fn open(deb: &Path) -> Package {
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("control");
    let status = std::process::Command::new("dpkg-deb")
        .arg("-e")
        .arg(deb)
        .arg(&control)
        .status()
        .unwrap();
    assert!(status.success(), "dpkg-deb cannot read {}", deb.display());
    let fields = std::fs::read_to_string(control.join("control")).unwrap();
    let field = |name: &str| {
        fields
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .unwrap_or_default()
            .to_owned()
    };
    let mut scripts = BTreeMap::new();
    for name in [
        "preinst",
        "postinst",
        "prerm",
        "postrm",
        "config",
        "templates",
    ] {
        if let Ok(bytes) = std::fs::read(control.join(name)) {
            scripts.insert(name.to_owned(), bytes);
        }
    }
    Package {
        name: field("Package"),
        version: field("Version"),
        architecture: field("Architecture"),
        scripts,
    }
}

/// One call of a script that an upgrade makes.
pub(crate) struct Step {
    pub(crate) phase: &'static str,
    pub(crate) script: Vec<u8>,
    pub(crate) name: ScriptName,
    pub(crate) package: String,
    pub(crate) architecture: String,
    pub(crate) arguments: Vec<String>,
}

/// The calls that an upgrade makes, in dpkg's order.
pub(crate) fn upgrade(old: &Package, new: &Package) -> Vec<Step> {
    let mut out = Vec::new();
    let mut step = |phase, package: &Package, file: &str, name, arguments: &[&str]| {
        if let Some(script) = package.scripts.get(file) {
            out.push(Step {
                phase,
                script: script.clone(),
                name,
                package: package.name.clone(),
                architecture: package.architecture.clone(),
                arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            });
        }
    };
    let (before, after) = (old.version.as_str(), new.version.as_str());
    step(
        "prerm",
        old,
        "prerm",
        ScriptName::Prerm,
        &["upgrade", after],
    );
    step(
        "preinst",
        new,
        "preinst",
        ScriptName::Preinst,
        &["upgrade", before, after],
    );
    step(
        "postrm",
        old,
        "postrm",
        ScriptName::Postrm,
        &["upgrade", after],
    );
    step(
        "postinst",
        new,
        "postinst",
        ScriptName::Postinst,
        &["configure", before],
    );
    out
}

/// The calls that the new packages of `debs` make in the guest unpacked at `root`.
pub(crate) fn calls(root: &Path, world: &World, debs: &Path) -> Vec<Step> {
    let mut out = Vec::new();
    for deb in debs_below(debs) {
        let new = open(&deb);
        let Some(installed) = world.packages.get(&new.name).and_then(|all| all.first()) else {
            for (phase, name, arguments) in [
                ("preinst", ScriptName::Preinst, vec!["install".to_owned()]),
                (
                    "postinst",
                    ScriptName::Postinst,
                    vec!["configure".to_owned(), String::new()],
                ),
            ] {
                if let Some(script) = new.scripts.get(phase) {
                    out.push(Step {
                        phase,
                        script: script.clone(),
                        name,
                        package: new.name.clone(),
                        architecture: new.architecture.clone(),
                        arguments,
                    });
                }
            }
            continue;
        };
        let infix = if installed.multi_arch_same {
            format!(":{}", installed.architecture)
        } else {
            String::new()
        };
        let mut scripts = BTreeMap::new();
        for name in ["prerm", "postrm"] {
            let path = root.join(format!("var/lib/dpkg/info/{}{infix}.{name}", new.name));
            if let Ok(bytes) = std::fs::read(path) {
                scripts.insert(name.to_owned(), bytes);
            }
        }
        let old = Package {
            name: new.name.clone(),
            version: installed.version.clone().unwrap_or_default(),
            architecture: installed.architecture.clone(),
            scripts,
        };
        out.extend(upgrade(&old, &new));
    }
    out
}
