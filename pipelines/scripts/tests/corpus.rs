//! Real maintainer scripts: those of the fixtures' packages, and by hand those of the folders named by
//! `DORMOUSE_SCRIPTS_ROOT` (an unpacked guest) and `DORMOUSE_SCRIPTS_DEBS` (new packages for it).

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Guests, required, world_of};
use dormouse_scripts::{Call, Limits, Outcome, ScriptName, World, run};

/// A package file's control files.
struct Package {
    name: String,
    version: String,
    architecture: String,
    scripts: BTreeMap<String, Vec<u8>>,
}

fn debs_below(folder: &Path) -> Vec<PathBuf> {
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

#[expect(clippy::disallowed_methods, reason = "dpkg-deb reads the packages of the test")]
fn open(deb: &Path) -> Package {
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
    for name in ["preinst", "postinst", "prerm", "postrm", "config", "templates"] {
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

#[derive(Default)]
struct Table {
    done: BTreeMap<&'static str, u32>,
    deferred: BTreeMap<&'static str, u32>,
    stoppers: BTreeMap<String, Vec<String>>,
}

impl Table {
    fn run(
        &mut self,
        guest: &Guests,
        world: &World,
        phase: &'static str,
        script: &[u8],
        name: ScriptName,
        package: &Package,
        arguments: &[&str],
    ) {
        let mut draft = guest.draft();
        let mut call = common::call(script);
        call.name = name;
        call.package = &package.name;
        call.architecture = &package.architecture;
        call.arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        let call: Call<'_> = call;
        match run(&call, &mut draft, world, &Limits::default()) {
            Outcome::Done(_) => *self.done.entry(phase).or_default() += 1,
            Outcome::Deferred(deferral) => {
                assert!(
                    draft.differences().unwrap().is_empty(),
                    "a deferred script left changes"
                );
                *self.deferred.entry(phase).or_default() += 1;
                let what = format!("{:?}: {deferral}", deferral.reason);
                self.stoppers
                    .entry(what)
                    .or_default()
                    .push(format!("{} {phase}", package.name));
            }
        }
    }

    fn print(&self, title: &str) {
        println!("{title}");
        for phase in ["prerm", "preinst", "postrm", "postinst", "triggered"] {
            println!(
                "  {phase:10} interpreted {:4}  deferred {:4}",
                self.done.get(phase).copied().unwrap_or(0),
                self.deferred.get(phase).copied().unwrap_or(0)
            );
        }
        for (why, scripts) in &self.stoppers {
            println!("  {:4} {why}   [{}]", scripts.len(), scripts.join(", "));
        }
    }
}

fn upgrade(table: &mut Table, guest: &Guests, world: &World, old: &Package, new: &Package) {
    let script = |package: &Package, name: &str| package.scripts.get(name).cloned();
    if let Some(script) = script(old, "prerm") {
        table.run(guest, world, "prerm", &script, ScriptName::Prerm, old, &["upgrade", &new.version]);
    }
    if let Some(script) = script(new, "preinst") {
        let arguments = ["upgrade", old.version.as_str(), new.version.as_str()];
        table.run(guest, world, "preinst", &script, ScriptName::Preinst, new, &arguments);
    }
    if let Some(script) = script(old, "postrm") {
        table.run(guest, world, "postrm", &script, ScriptName::Postrm, old, &["upgrade", &new.version]);
    }
    if let Some(script) = script(new, "postinst") {
        let arguments = ["configure", old.version.as_str()];
        table.run(guest, world, "postinst", &script, ScriptName::Postinst, new, &arguments);
        if script.windows(9).any(|part| part == b"triggered") {
            table.run(guest, world, "triggered", &script, ScriptName::Postinst, new, &["triggered", "x"]);
        }
    }
}

#[test]
fn scripts_of_the_fixtures_are_interpreted() {
    required(&["dpkg-deb"]);
    let fixtures = std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    let mut pairs: BTreeMap<PathBuf, Vec<Package>> = BTreeMap::new();
    for deb in debs_below(&fixtures.join("packages/deb")) {
        let folder = deb.parent().unwrap().to_path_buf();
        pairs.entry(folder).or_default().push(open(&deb));
    }
    assert!(pairs.len() >= 7, "the fixtures hold 7 pairs of packages");
    let guest = Guests::plain();
    let world = common::world();
    let mut table = Table::default();
    for packages in pairs.values() {
        let [new, old] = packages.as_slice() else {
            panic!("a pair is no pair");
        };
        upgrade(&mut table, &guest, &world, old, new);
    }
    table.print("the fixtures' packages");
    let before_configuration = ["prerm", "preinst", "postrm"];
    for phase in before_configuration {
        assert_eq!(table.deferred.get(phase), None, "a {phase} was deferred");
    }
}

#[test]
fn scripts_of_a_given_guest_are_counted() {
    let (Some(root), Some(debs)) = (
        std::env::var_os("DORMOUSE_SCRIPTS_ROOT"),
        std::env::var_os("DORMOUSE_SCRIPTS_DEBS"),
    ) else {
        return;
    };
    let root = PathBuf::from(root);
    let guest = common::guest_of(&root);
    let status = std::fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
    let world = world_of(&status);
    let mut table = Table::default();
    for deb in debs_below(Path::new(&debs)) {
        let new = open(&deb);
        let Some(installed) = world.packages.get(&new.name).and_then(|all| all.first()) else {
            let install = ["install"];
            if let Some(script) = new.scripts.get("preinst") {
                table.run(&guest, &world, "preinst", script, ScriptName::Preinst, &new, &install);
            }
            if let Some(script) = new.scripts.get("postinst") {
                table.run(&guest, &world, "postinst", script, ScriptName::Postinst, &new, &["configure", ""]);
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
        upgrade(&mut table, &guest, &world, &old, &new);
    }
    table.print("the given guest");
}
