//! Fixes beyond packages, from a baseline to a patched image that is read back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dormouse_block::Digest;
use dormouse_engine::{Keys, Pipeline, RunOptions, RunOutcome, Silent};
use dormouse_evidence::{PublicKey, SigningKey, verify};
use dormouse_remedy::{FixOutcome, Injection};

use crate::world::{OS, World, run};

const STATUS: &str = "Package: tool\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n\n";
const APK: &str =
    "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:musl\nV:1.2.4-r0\nA:x86_64\nS:1\nI:1\nT:x\nU:x\nL:MIT\n\n";

/// A baseline's fixes, for machines on which no upgrade is demanded.
const FIXES: &str = r##"
[[fix]]
id = "ssh-root"
title = "root comes in by key alone"
references = ["CVE-2026-0001", "https://example.org/hardening"]
severity = "high"
[[fix.file]]
path = "/etc/ssh/sshd_config"
[[fix.edit]]
do = "set"
path = "/etc/ssh/sshd_config"
key = "PermitRootLogin"
value = "no"
separator = " "
comments = "#"
ends-at = "Match"

[[fix]]
id = "no-module"
title = "a module that nobody needs is not loaded"
[[fix.edit]]
do = "write"
path = "/etc/modprobe.d/no-x.conf"
content = "blacklist x\n"
mode = "0600"
[[fix.edit]]
do = "remove"
path = "/etc/modules-x"
[[fix.edit]]
do = "symlink"
path = "/etc/alias"
target = "ssh/sshd_config"
[[fix.edit]]
do = "line"
path = "/link/hosts"
line = "127.0.0.1 localhost"
matching = "127.0.0.1 *"
[[fix.edit]]
do = "attributes"
path = "/etc/secret"
mode = "0640"
group = "shadow"

[[fix]]
id = "not-here"
title = "what only another machine needs"
applies-to = { machines = ["other-*"] }
[[fix.edit]]
do = "remove"
path = "/etc/hosts"
"##;

struct Bench {
    world: World,
    folder: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let folder = world.library.parent().unwrap().to_owned();
        Self { world, folder }
    }

    /// A disk of what `fill` puts in a folder; `size` as mke2fs has it.
    fn disk(&self, name: &str, size: &str, fill: impl Fn(&Path)) {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("root");
        let put = |path: &str, text: &str| {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(OS.0, OS.1);
        put(
            "etc/ssh/sshd_config",
            "# how\nPermitRootLogin yes # bad\nMatch User a\n  PermitRootLogin yes\n",
        );
        put("etc/hosts", "127.0.0.1 wrong\n::1 localhost\n");
        put("etc/modules-x", "x\n");
        put("etc/secret", "s\n");
        put("etc/group", "root:x:0:\nshadow:x:42:\n");
        symlink("etc", top.join("link")).unwrap();
        fs::set_permissions(top.join("etc/secret"), fs::Permissions::from_mode(0o644)).unwrap();
        fill(&top);
        let raw = root.path().join("disk");
        let (from, to) = (top.to_str().unwrap(), raw.to_str().unwrap());
        run(
            "mke2fs",
            &[
                "-q",
                "-F",
                "-t",
                "ext4",
                "-E",
                "root_owner=0:0",
                "-d",
                from,
                to,
                size,
            ],
        );
        // By debugfs, for not everybody may make devices.
        let commands = root.path().join("commands");
        fs::write(&commands, "cd /etc\nmknod null c 1 3\n").unwrap();
        run("debugfs", &["-w", "-f", commands.to_str().unwrap(), to]);
        let path = self.world.path(name);
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                "qcow2",
                to,
                path.to_str().unwrap(),
            ],
        );
    }

    fn run(&self, baseline: &str, key: Option<&SigningKey>) -> RunOutcome {
        let path = self.folder.join("b.toml");
        fs::write(&path, baseline).unwrap();
        let packages = self.folder.join("packages");
        let repositories = if packages.is_dir() {
            format!("repositories = ['{}']\n", packages.display())
        } else {
            String::new()
        };
        let until = if key.is_some() { "attest" } else { "verify" };
        let pipeline = format!(
            "name = 'p'\nuntil = '{until}'\nbaseline = '{}'\n{repositories}",
            path.display()
        );
        let state = crate::world::open_state(&self.folder.join("state"));
        let now = "2026-02-01T00:00:00Z".parse().unwrap();
        let options = RunOptions {
            pipeline: Pipeline::parse(&pipeline).unwrap(),
            library: self.world.library.clone(),
            output: self.folder.join("results"),
            repositories: Vec::new(),
            keyring: None,
            baseline: None,
            only: BTreeSet::new(),
            feeds: Vec::new(),
            estate: None,
            allow_backing: Vec::new(),
            keys: Keys::default(),
            as_of: Some(now),
            now,
            jobs: Some(1),
            tool: "test".into(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let signer = key.map(|key| key as &(dyn dormouse_evidence::Signer + Sync));
        dormouse_engine::run(&options, &state, signer, &Silent).unwrap()
    }

    fn injection(&self, machine: &str) -> Injection {
        let path = self
            .folder
            .join(format!("results/injections/{machine}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// The patched disk as bytes, held against e2fsck.
    fn patched(&self, machine: &str) -> PathBuf {
        let image = self.folder.join(format!("results/images/{machine}.qcow2"));
        let raw = self.folder.join("patched.raw");
        run(
            "qemu-img",
            &[
                "convert",
                "-O",
                "raw",
                image.to_str().unwrap(),
                raw.to_str().unwrap(),
            ],
        );
        let out = Command::new("e2fsck").args(["-fn"]).arg(&raw).output();
        let out = out.expect("the oracle e2fsck is required");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}");
        let complaint = said
            .lines()
            .find(|line| line.contains('?') || line.contains("error"));
        assert_eq!(complaint, None, "{said}");
        raw
    }
}

/// What debugfs says of a disk.
fn debugfs(raw: &Path, command: &str) -> String {
    let out = Command::new("debugfs")
        .args(["-R", command])
        .arg(raw)
        .output();
    let out = out.expect("the oracle debugfs is required");
    String::from_utf8(out.stdout).unwrap()
}

fn action(outcome: &RunOutcome) -> String {
    outcome.report.machines[0].points[0].action.clone()
}

/// The findings of rule fix, by id, with what was found.
fn findings(outcome: &RunOutcome) -> Vec<(String, String)> {
    let findings = outcome.report.machines[0].points[0].findings.iter();
    findings
        .map(|finding| (finding.package.clone(), finding.installed.clone()))
        .collect()
}

fn check_files(raw: &Path) {
    let ssh = "# how\nPermitRootLogin no # bad\nMatch User a\n  PermitRootLogin yes\n";
    assert_eq!(debugfs(raw, "cat /etc/ssh/sshd_config"), ssh);
    assert_eq!(
        debugfs(raw, "cat /etc/hosts"),
        "127.0.0.1 localhost\n::1 localhost\n"
    );
    assert_eq!(
        debugfs(raw, "cat /etc/modprobe.d/no-x.conf"),
        "blacklist x\n"
    );
    assert_eq!(debugfs(raw, "cat /etc/modules-x"), "");
    let stat = |path: &str| debugfs(raw, &format!("stat {path}"));
    assert!(stat("/etc/modprobe.d/no-x.conf").contains("Mode:  0600"));
    assert!(stat("/etc/modprobe.d").contains("Mode:  0755"));
    let secret = stat("/etc/secret");
    assert!(
        secret.contains("Mode:  0640") && secret.contains("Group:    42"),
        "{secret}"
    );
    assert!(stat("/etc/alias").contains("Fast link dest: \"ssh/sshd_config\""));
}

#[test]
fn fixes_alone_are_made_where_there_is_no_dpkg_and_the_second_run_has_nothing_to_do() {
    let bench = Bench::new();
    bench.disk("a1.qcow2", "8M", |root| {
        fs::create_dir_all(root.join("lib/apk/db")).unwrap();
        fs::write(root.join("lib/apk/db/installed"), APK).unwrap();
        fs::write(root.join(OS.0), "ID=alpine\nVERSION_ID=3.18.0\n").unwrap();
    });
    let baseline = format!(
        "name = 'b'\n[[accepted-gap]]\nid = 'G'\ngap = 'no repository or advisory*'\nreason = 'fixes alone'\nexpires = 2027-01-01\n{FIXES}"
    );
    let key = SigningKey::from_seed([7; 32]);
    let outcome = bench.run(&baseline, Some(&key));
    assert_eq!(
        findings(&outcome)
            .into_iter()
            .map(|(id, _)| id)
            .collect::<BTreeSet<_>>(),
        BTreeSet::from(["ssh-root".to_owned(), "no-module".to_owned()])
    );
    assert!(
        action(&outcome).ends_with("2 of 2 fixes made"),
        "{}",
        action(&outcome)
    );
    let raw = bench.patched("a1");
    check_files(&raw);

    // What was done stands in the injection, with digests before and after, and in the signed statement.
    let injection = bench.injection("a1");
    let ssh = &injection.fixes[0];
    assert_eq!(
        (ssh.id.as_str(), &ssh.outcome),
        ("ssh-root", &FixOutcome::Made)
    );
    let touched = &ssh.paths[0];
    let digest = |text: &str| Some(Digest::of(text));
    let before = "# how\nPermitRootLogin yes # bad\nMatch User a\n  PermitRootLogin yes\n";
    assert_eq!(touched.before.as_ref().unwrap().digest, digest(before));
    assert_eq!(
        touched.after.as_ref().unwrap().digest,
        digest(&before.replacen("yes", "no", 1))
    );
    assert!(injection.packages.is_empty() && injection.inventory.is_empty());
    let evidence = bench.folder.join("results/evidence/a1/active.dsse.json");
    let public: PublicKey = key.public();
    let statement = verify(&fs::read(evidence).unwrap(), &[public])
        .unwrap()
        .statement;
    let stated = &statement.predicate["done"]["action"]["injection"]["fixes"];
    assert_eq!(*stated, serde_json::to_value(&injection.fixes).unwrap());
    assert_eq!(
        statement.predicate["decision"]["plan"]["fixes"][1]["id"],
        "no-module"
    );

    // Nothing of the base was changed, and the patched machine has nothing left to do.
    let again = Bench::new();
    let to = again.world.path("a1.qcow2");
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            raw.to_str().unwrap(),
            to.to_str().unwrap(),
        ],
    );
    let second = again.run(&baseline, None);
    assert_eq!(findings(&second), []);
    assert_eq!(action(&second), "nothing to do");
}

#[test]
fn a_fix_comes_after_the_packages_and_a_conffile_is_noted() {
    let bench = Bench::new();
    bench.disk("p1.qcow2", "8M", |root| {
        for (path, text) in [
            (
                "var/lib/dpkg/status",
                &*format!("{STATUS}{}", STATUS.replace("tool", "other")),
            ),
            ("var/lib/dpkg/info/format", "1\n"),
            ("var/lib/dpkg/info/tool.list", "/.\n/etc\n"),
            ("var/lib/dpkg/info/other.list", "/.\n/etc\n/etc/secret\n"),
            (
                "var/lib/dpkg/diversions",
                "/etc/ssh/sshd_config\n/etc/ssh/sshd_config.real\n:\n",
            ),
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
    });
    let build = bench.folder.join("build");
    fs::create_dir_all(build.join("DEBIAN")).unwrap();
    fs::create_dir_all(build.join("etc")).unwrap();
    fs::write(build.join("etc/tool.conf"), "level = 1\n").unwrap();
    fs::write(build.join("DEBIAN/conffiles"), "/etc/tool.conf\n").unwrap();
    let control = "Package: tool\nVersion: 2\nArchitecture: all\nMaintainer: x\nDescription: x\n";
    fs::write(build.join("DEBIAN/control"), control).unwrap();
    let packages = bench.folder.join("packages");
    fs::create_dir_all(&packages).unwrap();
    let deb = packages.join("tool_2_all.deb");
    run(
        "dpkg-deb",
        &[
            "--root-owner-group",
            "-Zxz",
            "-b",
            build.to_str().unwrap(),
            deb.to_str().unwrap(),
        ],
    );
    let bytes = fs::read(&deb).unwrap();
    let index = format!(
        "{control}Filename: ./tool_2_all.deb\nSize: {}\nSHA256: {}\n\n",
        bytes.len(),
        Digest::of(&bytes).hex()
    );
    fs::write(packages.join("Packages"), &index).unwrap();
    // The file that it edits comes with the package, so it cannot be made before.
    let baseline = format!(
        "name = 'b'\n[minimum-versions]\ntool = '2'\n[[repository]]\nname = 'packages'\ntrusted = ['{}']\n\
         [[fix]]\nid = 'tool-level'\ntitle = 'the tool is strict'\n[[fix.package]]\nname = 'tool'\nversions = ['>= 1', '<< 3']\n\
         [[fix.edit]]\ndo = 'set'\npath = '/etc/tool.conf'\nkey = 'level'\nvalue = '2'\n{FIXES}",
        Digest::of(&index)
    );
    let outcome = bench.run(&baseline, None);
    let said = findings(&outcome);
    let level = said.iter().find(|(id, _)| id == "tool-level").unwrap();
    assert!(
        level
            .1
            .contains("cannot be made: there is no such file (/etc/tool.conf)"),
        "{level:?}"
    );
    assert!(
        action(&outcome)
            .starts_with("patched: 1 packages injected, 1 configured, 3 of 3 fixes made"),
        "{}",
        action(&outcome)
    );
    let raw = bench.patched("p1");
    check_files(&raw);
    assert_eq!(debugfs(&raw, "cat /etc/tool.conf"), "level = 2\n");
    let injection = bench.injection("p1");
    let notes: Vec<&str> = injection
        .fixes
        .iter()
        .flat_map(|fix| &fix.notes)
        .map(String::as_str)
        .collect();
    assert_eq!(
        notes,
        [
            "/etc/tool.conf is a conffile of tool: its upgrades find it changed, as by an administrator",
            "/etc/ssh/sshd_config is diverted to /etc/ssh/sshd_config.real by an administrator",
            "/etc/secret is a file of other: its next upgrade brings its own",
        ]
    );
}

#[test]
fn an_edit_that_cannot_be_made_is_refused_by_name_and_nothing_of_its_fix_is() {
    let bench = Bench::new();
    bench.disk("h1.qcow2", "32M", |root| {
        fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
        fs::write(root.join("var/lib/dpkg/status"), STATUS).unwrap();
        fs::write(root.join("var/lib/dpkg/info/tool.list"), "/.\n").unwrap();
        fs::write(root.join("var/lib/dpkg/info/format"), "1\n").unwrap();
        symlink("../../../outside", root.join("etc/out")).unwrap();
        symlink("two", root.join("etc/one")).unwrap();
        symlink("one", root.join("etc/two")).unwrap();
        symlink("/dev", root.join("etc/devices")).unwrap();
        fs::write(root.join("etc/binary"), b"k=1\0\n").unwrap();
        fs::write(root.join("etc/latin"), b"k=\xe4\n").unwrap();
        let large = fs::File::create(root.join("etc/large")).unwrap();
        large.set_len(1 << 30).unwrap();
        run("mkfifo", &[root.join("etc/pipe").to_str().unwrap()]);
    });
    let cases = [
        (
            "out",
            "do = 'write'\npath = '/etc/out/x'\ncontent = 'x'",
            "leads above the root",
        ),
        (
            "loop",
            "do = 'write'\npath = '/etc/one/x'\ncontent = 'x'",
            "a loop",
        ),
        (
            "loop-end",
            "do = 'line'\npath = '/etc/one'\nline = 'x'",
            "a loop",
        ),
        (
            "dev",
            "do = 'write'\npath = '/etc/devices/null'\ncontent = 'x'",
            "is made anew at every boot",
        ),
        (
            "binary",
            "do = 'set'\npath = '/etc/binary'\nkey = 'k'\nvalue = '2'",
            "a binary file",
        ),
        (
            "latin",
            "do = 'set'\npath = '/etc/latin'\nkey = 'k'\nvalue = '2'",
            "not UTF-8",
        ),
        (
            "large",
            "do = 'set'\npath = '/etc/large'\nkey = 'k'\nvalue = '2'",
            "1073741824 bytes; at most 1048576",
        ),
        (
            "large-over",
            "do = 'write'\npath = '/etc/large'\ncontent = 'x'",
            "a file of 1073741824 bytes",
        ),
        (
            "device",
            "do = 'line'\npath = '/etc/null'\nline = 'x'",
            "no regular file but a device",
        ),
        (
            "device-over",
            "do = 'write'\npath = '/etc/null'\ncontent = 'x'",
            "a device stands there",
        ),
        (
            "device-gone",
            "do = 'remove'\npath = '/etc/null'",
            "a device stands there",
        ),
        (
            "device-mode",
            "do = 'attributes'\npath = '/etc/null'\nmode = '0600'",
            "a device stands there",
        ),
        (
            "pipe",
            "do = 'line'\npath = '/etc/pipe'\nline = 'x'",
            "no regular file but a pipe",
        ),
        (
            "folder",
            "do = 'remove'\npath = '/etc/ssh'",
            "a directory stands there",
        ),
        (
            "through",
            "do = 'write'\npath = '/etc/hosts/x'\ncontent = 'x'",
            "no directory but a file",
        ),
        (
            "nobody",
            "do = 'attributes'\npath = '/etc/hosts'\nowner = 'nobody-here'",
            "has no nobody-here",
        ),
        (
            "missing",
            "do = 'line'\npath = '/etc/none'\nline = 'x'",
            "there is no such file",
        ),
    ];
    let mut fixes = String::new();
    for (id, edit, _) in cases {
        // The first edit could be made; with the second refused it is not.
        fixes.push_str(&format!(
            "[[fix]]\nid = '{id}'\ntitle = 't'\n[[fix.edit]]\ndo = 'write'\npath = '/etc/half-{id}'\ncontent = 'x'\n[[fix.edit]]\n{edit}\n"
        ));
    }
    // Refusals alone: nothing is written, and the decision says why.
    let alone = bench.run(&format!("name = 'b'\n{fixes}"), None);
    for (id, _, why) in cases {
        let all = findings(&alone);
        let (_, found) = all.iter().find(|(one, _)| one == id).unwrap();
        assert!(
            found.starts_with("cannot be made: ") && found.contains(why),
            "{id}: {found}"
        );
        assert!(
            action(&alone).contains(&format!("the fix {id} cannot be made")),
            "{id}"
        );
    }
    assert!(!bench.folder.join("results/images/h1.qcow2").exists());

    // Beside one that can be made.
    let beside = bench.run(&format!("name = 'b'\n{fixes}{FIXES}"), None);
    assert!(
        action(&beside).contains("2 of 19 fixes made"),
        "{}",
        action(&beside)
    );
    let raw = bench.patched("h1");
    check_files(&raw);
    for (id, _, why) in cases {
        assert_eq!(debugfs(&raw, &format!("cat /etc/half-{id}")), "", "{id}");
        let injection = bench.injection("h1");
        let fix = injection.fixes.iter().find(|fix| fix.id == id).unwrap();
        match &fix.outcome {
            FixOutcome::Refused { why: said } => assert!(said.contains(why), "{id}: {said}"),
            other => panic!("{id}: {other:?}"),
        }
        assert!(fix.paths.is_empty());
    }
    let injection = bench.injection("h1");
    assert_eq!(injection.paths.len(), 7, "{:#?}", injection.paths.keys());
}

#[test]
fn a_waived_fix_is_not_made() {
    let bench = Bench::new();
    bench.disk("w1.qcow2", "8M", |root| {
        fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
        fs::write(root.join("var/lib/dpkg/status"), STATUS).unwrap();
    });
    let waiver = "[[waiver]]\nid = 'W'\npackage = 'no-module'\nrule = 'fix'\nreason = 'r'\nexpires = 2027-01-01\n\
        [[waiver]]\nid = 'C'\ncves = ['CVE-2026-0001']\nreason = 'r'\nexpires = 2027-01-01\n";
    let outcome = bench.run(&format!("name = 'b'\n{waiver}{FIXES}"), None);
    assert_eq!(findings(&outcome).len(), 2);
    assert_eq!(action(&outcome), "nothing to do");
}
