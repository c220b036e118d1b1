//! Every binary package of a release's security suite, interpreted in upgrade form against a tree that has its old
//! version, by hand: `DORMOUSE_SECURITY_CORPUS` is what `tests/guests/security-corpus.sh` made, `DORMOUSE_SECURITY_RELEASES`
//! picks some of its releases. Prints totals; writes `table.tsv` beside each release's packages: package, `boot` for one of
//! kernel and boot or `other`, script, what became of it, the stopping command, why.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use common::packages::{Package, Step, upgrade};
use common::tar::{Entry, Kind};
use common::{path, world_of};
use dormouse_block::GuestPath;
use dormouse_filesystem::{Follow, Guest, Time};
use dormouse_overlay::{Attributes, Content, Draft, DraftNode};
use dormouse_scripts::{Limits, Outcome, PackageView, ScriptName, World, run};

/// Packages that need the running kernel or make what boots; their scripts are left to the first boot.
const KERNEL_AND_BOOT: &[&str] = &[
    "linux-",
    "grub",
    "shim",
    "initramfs-tools",
    "dracut",
    "systemd-boot",
    "u-boot",
    "fwupd",
    "usb.ids-",
    "intel-microcode",
    "amd64-microcode",
];

/// The shares of maintainer scripts outside of kernel and boot packages that must be interpreted, of 100.
const GOAL: usize = 95;

struct Opened {
    package: Package,
    multi_arch_same: bool,
    /// Every path its control archive names.
    files: BTreeSet<String>,
    /// Where the control files are.
    folder: PathBuf,
}

fn open(folder: &Path) -> Option<Opened> {
    let fields = std::fs::read_to_string(folder.join("control")).ok()?;
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
        if let Ok(bytes) = std::fs::read(folder.join(name)) {
            scripts.insert(name.to_owned(), bytes);
        }
    }
    let text = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mut files: BTreeSet<String> = text("md5sums")
        .lines()
        .filter_map(|line| Some(format!("/{}", line.split_once("  ")?.1)))
        .collect();
    files.extend(
        text("conffiles")
            .lines()
            .filter_map(|line| line.split(' ').next_back())
            .filter(|path| path.starts_with('/'))
            .map(str::to_owned),
    );
    Some(Opened {
        package: Package {
            name: field("Package"),
            version: field("Version"),
            architecture: field("Architecture"),
            scripts,
        },
        multi_arch_same: field("Multi-Arch") == "same",
        files,
        folder: folder.to_path_buf(),
    })
}

/// What a version was before the security team's additions to it.
fn before_security(version: &str) -> String {
    let cut = [version.rfind("+deb"), version.rfind("~deb")]
        .into_iter()
        .flatten()
        .min();
    match cut {
        Some(at) => version[..at].to_owned(),
        None => format!("{version}~"),
    }
}

/// A directory or symbolic link that a package holds: its path, its mode, its owner, where it leads.
type Place = (String, u16, (u32, u32), Option<String>);

struct Corpus {
    folder: PathBuf,
    places: RefCell<BTreeMap<String, Rc<Vec<Place>>>>,
    depends: BTreeMap<String, Vec<String>>,
    programs: BTreeMap<String, Vec<String>>,
}

impl Corpus {
    fn open(folder: &Path) -> Self {
        let mut depends: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in std::fs::read_to_string(folder.join("depends.tsv"))
            .unwrap()
            .lines()
        {
            let mut fields = line.split('\t');
            let (name, _, wanted) = (fields.next().unwrap(), fields.next(), fields.next());
            let names = wanted
                .unwrap_or_default()
                .split(", ")
                .filter_map(|one| one.split([' ', ':', '|']).next())
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect();
            depends.entry(name.to_owned()).or_insert(names);
        }
        let mut programs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in std::fs::read_to_string(folder.join("programs.tsv"))
            .unwrap()
            .lines()
        {
            let (name, path) = line.split_once('\t').unwrap();
            programs
                .entry(name.to_owned())
                .or_default()
                .push(path.to_owned());
        }
        Self {
            folder: folder.to_path_buf(),
            places: RefCell::default(),
            depends,
            programs,
        }
    }

    /// The directories and symbolic links of a package that is there whole.
    fn places(&self, name: &str) -> Rc<Vec<Place>> {
        if let Some(known) = self.places.borrow().get(name) {
            return known.clone();
        }
        let mut out = Vec::new();
        let file = self.folder.join("packages").join(name);
        if file.is_file() {
            contents(&file, |entry| {
                let target = match entry.kind {
                    Kind::Directory => None,
                    Kind::Symlink(target) => Some(target),
                    _ => return,
                };
                out.push((entry.path, entry.mode, (entry.uid, entry.gid), target));
            });
        }
        let out = Rc::new(out);
        self.places
            .borrow_mut()
            .insert(name.to_owned(), out.clone());
        out
    }

    /// The package and all that it depends on, the first of alternatives.
    fn closure(&self, name: &str) -> BTreeSet<&str> {
        let mut out = BTreeSet::new();
        let mut todo: Vec<&str> = vec![name];
        while let Some(name) = todo.pop() {
            if let Some((name, wanted)) = self.depends.get_key_value(name)
                && out.insert(name.as_str())
            {
                todo.extend(wanted.iter().map(String::as_str));
            }
        }
        out
    }
}

fn plain(mode: u16) -> Attributes {
    Attributes {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: BTreeMap::new(),
    }
}

fn folder(draft: &mut Draft, at: &GuestPath) {
    if draft.get(at, Follow::Links).unwrap().is_none() {
        if let Some(parent) = at.parent() {
            folder(draft, &parent);
        }
        let _ = draft.put(at, DraftNode::Directory, plain(0o755));
    }
}

fn put(draft: &mut Draft, at: &str, bytes: Vec<u8>, mode: u16) {
    let at = path(at);
    if draft.get(&at, Follow::Links).unwrap().is_some() {
        return;
    }
    if let Some(parent) = at.parent() {
        folder(draft, &parent);
    }
    let _ = draft.put(&at, DraftNode::File(Content::bytes(bytes)), plain(mode));
}

fn is_program(path: &str) -> bool {
    ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"]
        .iter()
        .any(|folder| path.starts_with(folder))
}

/// Puts what a package file holds into the draft where nothing stands.
fn unpack(draft: &mut Draft, file: &Path, listed: &mut BTreeSet<String>) {
    contents(file, |entry| {
        listed.insert(entry.path.clone());
        let at = path(&entry.path);
        let node = match entry.kind {
            Kind::File(mut bytes) => {
                if bytes.starts_with(b"\x7fELF") {
                    bytes.truncate(64);
                }
                DraftNode::File(Content::bytes(bytes))
            }
            Kind::Link(target) => {
                if let Some(parent) = at.parent() {
                    folder(draft, &parent);
                }
                let _ = draft.link(&path(&target), &at);
                return;
            }
            Kind::Symlink(target) => DraftNode::Symlink(target.into_bytes()),
            Kind::Directory => DraftNode::Directory,
        };
        stand(draft, &at, node, entry.mode, (entry.uid, entry.gid));
    });
}

/// Every entry of a package file's data archive.
fn contents(file: &Path, each: impl FnMut(Entry)) {
    let mut child = std::process::Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(file)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    common::tar::read(child.stdout.take().unwrap(), each);
    let _ = child.wait();
}

/// Puts a node where nothing stands.
fn stand(draft: &mut Draft, at: &GuestPath, node: DraftNode, mode: u16, owner: (u32, u32)) {
    if draft.get(at, Follow::No).unwrap().is_some() {
        return;
    }
    if let Some(parent) = at.parent() {
        folder(draft, &parent);
    }
    let mut attributes = plain(mode);
    (attributes.uid, attributes.gid) = owner;
    let _ = draft.put(at, node, attributes);
}

/// Installs the old version of a package, and first what it depends on of the same suite, as far as that is interpreted:
/// the accounts and folders that the scripts made when they ran for the first time.
fn install(corpus: &Corpus, draft: &mut Draft, world: &mut World, new: &Opened, old: &Package) {
    let mut packages = Vec::new();
    for name in corpus.closure(&new.package.name) {
        if name == new.package.name || world.packages.contains_key(name) {
            continue;
        }
        for folder in ["old", "new"] {
            if let Some(found) = open(&corpus.folder.join(folder).join(name)) {
                packages.push(found.package);
                break;
            }
        }
    }
    packages.push(old.clone());
    for package in &packages {
        for (name, arguments) in [
            (ScriptName::Preinst, vec!["install".to_owned()]),
            (
                ScriptName::Postinst,
                vec!["configure".to_owned(), String::new()],
            ),
        ] {
            let Some(script) = package.scripts.get(name.as_str()) else {
                continue;
            };
            let step = Step {
                phase: "install",
                script: script.clone(),
                name,
                package: package.name.clone(),
                architecture: package.architecture.clone(),
                arguments,
            };
            let _ = run(&common::call_of(&step), draft, world, &Limits::default());
        }
    }
}

/// A guest on which the package's old version is installed, all it depends on is there, and the new one is unpacked.
fn prepare(corpus: &Corpus, guest: &Arc<Guest>, new: &Opened) -> Draft {
    let mut draft = common::draft_over(guest);
    for name in corpus.closure(&new.package.name) {
        if name != new.package.name {
            for (at, mode, owner, target) in corpus.places(name).iter() {
                let node = match target {
                    None => DraftNode::Directory,
                    Some(target) => DraftNode::Symlink(target.clone().into_bytes()),
                };
                stand(&mut draft, &path(at), node, *mode, *owner);
            }
        }
        for program in corpus.programs.get(name).into_iter().flatten() {
            put(&mut draft, program, b"\x7fELF".to_vec(), 0o755);
        }
    }
    let mut listed = new.files.clone();
    let whole = corpus.folder.join("packages").join(&new.package.name);
    if whole.is_file() {
        unpack(&mut draft, &whole, &mut listed);
    }
    for file in &new.files {
        let mode = if is_program(file) { 0o755 } else { 0o644 };
        let bytes: &[u8] = if is_program(file) { b"\x7fELF" } else { b"" };
        put(&mut draft, file, bytes.to_vec(), mode);
    }
    let infix = if new.multi_arch_same {
        format!(":{}", new.package.architecture)
    } else {
        String::new()
    };
    let mut list: String = "/.\n".into();
    for file in &listed {
        list.push_str(file);
        list.push('\n');
    }
    let info = format!("/var/lib/dpkg/info/{}{infix}", new.package.name);
    put(
        &mut draft,
        &format!("{info}.list"),
        list.into_bytes(),
        0o644,
    );
    for name in ["conffiles", "md5sums", "templates", "config"] {
        if let Ok(bytes) = std::fs::read(new.folder.join(name)) {
            put(&mut draft, &format!("{info}.{name}"), bytes, 0o755);
        }
    }
    draft
}

#[derive(Default)]
struct Totals {
    interpreted: usize,
    deferred: usize,
}

fn judge(corpus: &Corpus, guest: &Arc<Guest>, world: &World) -> Totals {
    let mut world = world.clone();
    let mut table = String::new();
    let mut stoppers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut phases: BTreeMap<&str, Totals> = BTreeMap::new();
    let (mut all, mut boot) = (Totals::default(), Totals::default());
    let mut packages = 0;
    let (mut whole, mut scripted) = (0, 0);
    let mut folders: Vec<_> = std::fs::read_dir(corpus.folder.join("new"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let only = std::env::var("DORMOUSE_SECURITY_PACKAGE").ok();
    for folder in folders {
        let Some(new) = open(&folder) else {
            continue;
        };
        if only
            .as_ref()
            .is_some_and(|only| !only.split_whitespace().any(|name| name == new.package.name))
        {
            continue;
        }
        packages += 1;
        let name = new.package.name.clone();
        let former = open(&corpus.folder.join("old").join(&name));
        // The release's point updates may have caught up: then the new scripts stand for the old ones.
        let old = match former {
            Some(former) if former.package.version != new.package.version => former.package,
            _ => Package {
                version: before_security(&new.package.version),
                ..open(&folder).unwrap().package
            },
        };
        let steps = upgrade(&old, &new.package);
        if steps.is_empty() {
            continue;
        }
        scripted += 1;
        let mut complete = true;
        let mut draft = prepare(corpus, guest, &new);
        let standing = world.packages.remove(&name);
        if standing.is_none() {
            install(corpus, &mut draft, &mut world, &new, &old);
        }
        let before = draft.savepoint();
        let is_boot = KERNEL_AND_BOOT.iter().any(|start| name.starts_with(start));
        let kind = if is_boot { "boot" } else { "other" };
        for step in &steps {
            let configures = step.phase == "postinst";
            world.packages.insert(
                name.clone(),
                vec![PackageView {
                    architecture: new.package.architecture.clone(),
                    multi_arch_same: new.multi_arch_same,
                    want: "install".into(),
                    error: "ok".into(),
                    state: if configures {
                        "half-configured"
                    } else {
                        "installed"
                    }
                    .into(),
                    version: Some(if configures { &new.package } else { &old }.version.clone()),
                    config_version: configures.then(|| old.version.clone()),
                    ..PackageView::default()
                }],
            );
            let call = common::call_of(step);
            let outcome = run(&call, &mut draft, &world, &Limits::default());
            let totals = if is_boot { &mut boot } else { &mut all };
            let phase = phases.entry(step.phase).or_default();
            match outcome {
                Outcome::Done(_) => {
                    totals.interpreted += 1;
                    phase.interpreted += 1;
                    writeln!(table, "{name}\t{kind}\t{}\tinterpreted\t-\t-", step.phase).unwrap();
                }
                Outcome::Deferred(deferral) => {
                    totals.deferred += 1;
                    phase.deferred += 1;
                    complete = false;
                    let command = deferral.command.clone().unwrap_or_else(|| "-".into());
                    writeln!(
                        table,
                        "{name}\t{kind}\t{}\tdeferred\t{command}\t{}",
                        step.phase, deferral.why
                    )
                    .unwrap();
                    if !is_boot {
                        let why = match &deferral.command {
                            Some(command) => {
                                format!("{:?}: {command}: {}", deferral.reason, deferral.why)
                            }
                            None => format!("{:?}: {}", deferral.reason, deferral.why),
                        };
                        stoppers
                            .entry(why)
                            .or_default()
                            .push(format!("{name} {}", step.phase));
                    }
                }
            }
            draft.go_back(before);
        }
        whole += usize::from(complete);
        world.packages.remove(&name);
        if let Some(standing) = standing {
            world.packages.insert(name, standing);
        }
    }
    if only.is_none() {
        std::fs::write(corpus.folder.join("table.tsv"), table).unwrap();
    }
    println!(
        "{}: {packages} packages, {scripted} with scripts of which {whole} wholly interpreted",
        corpus.folder.display()
    );
    println!(
        "  outside of kernel and boot: interpreted {} deferred {}",
        all.interpreted, all.deferred
    );
    println!(
        "  kernel and boot:            interpreted {} deferred {}",
        boot.interpreted, boot.deferred
    );
    for (phase, totals) in phases {
        println!(
            "  {phase:10} interpreted {:5}  deferred {:5}",
            totals.interpreted, totals.deferred
        );
    }
    let mut sorted: Vec<_> = stoppers.into_iter().collect();
    sorted.sort_by_key(|(why, scripts)| (std::cmp::Reverse(scripts.len()), why.clone()));
    for (why, scripts) in sorted {
        let shown: Vec<_> = scripts.iter().take(4).cloned().collect();
        println!("  {:4} {why}   [{}]", scripts.len(), shown.join(", "));
    }
    all
}

#[test]
fn security_suites_are_interpreted() {
    let corpus = std::env::var_os("DORMOUSE_SECURITY_CORPUS").unwrap_or_else(|| {
        panic!("DORMOUSE_SECURITY_CORPUS must name what tests/guests/security-corpus.sh made")
    });
    let corpus = PathBuf::from(corpus);
    let releases =
        std::env::var("DORMOUSE_SECURITY_RELEASES").unwrap_or("bookworm bullseye".into());
    for release in releases.split_whitespace() {
        let folder = corpus.join(release);
        let guests = common::tar::guest(&folder.join("root.tar"));
        let guest = guests.guest();
        let status = common::draft_over(&guest)
            .read(&path("/var/lib/dpkg/status"), 1 << 26)
            .unwrap()
            .expect("the base tree has a package database");
        let world = world_of(&String::from_utf8(status).unwrap());
        let totals = judge(&Corpus::open(&folder), &guest, &world);
        let sum = totals.interpreted + totals.deferred;
        if std::env::var_os("DORMOUSE_SECURITY_PACKAGE").is_none() {
            assert!(
                totals.interpreted * 100 >= GOAL * sum,
                "{release}: {} of {sum} scripts are interpreted",
                totals.interpreted
            );
        }
    }
}
