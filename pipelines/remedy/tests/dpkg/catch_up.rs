//! The catch-up script on private roots: what it refuses, waits for, goes on from, and says after a restart.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use dormouse_remedy::PlannedPackage;

use crate::host::see;
use crate::injection::{catch_up, plan, planned, run_script, shellcheck};
use crate::root::{Bench, Recipe, dpkg, read};

/// A machine with packages in version 1, a bundle that brings version 2, and the script.
struct Scene {
    bench: Bench,
    script: PathBuf,
    bundle: PathBuf,
    root: PathBuf,
}

impl Scene {
    /// Each package is a name, with further fields of its version 2; `restart` is why the machine must be started anew.
    fn new(packages: &[(&str, &str)], restart: &[&str]) -> Self {
        let bench = Bench::new();
        let bundle = bench.folder.path().join("disc");
        std::fs::create_dir_all(bundle.join("packages")).unwrap();
        // A file of its own each, or dpkg would let one disappear behind the other.
        let build = |name: &str, version: &str, fields: &str| {
            let file = format!("usr/share/versions/{name}");
            bench.build(&Recipe {
                name,
                version,
                fields,
                files: &[(&file, version)],
                ..Recipe::default()
            })
        };
        let mut wanted = Vec::new();
        for &(name, fields) in packages {
            bench.install(&[&build(name, "1", "")]);
            let new = build(name, "2", fields);
            wanted.push(of_bundle(&new));
            let file = new.file_name().unwrap();
            std::fs::copy(&new, bundle.join("packages").join(file)).unwrap();
        }
        let mut plan = plan(wanted);
        plan.reboot = restart.iter().map(|&why| why.to_owned()).collect();
        let script = bundle.join("catch-up.sh");
        std::fs::write(&script, catch_up(&bench, &plan).script().unwrap()).unwrap();
        shellcheck(&script);
        let root = bench.copy("woken");
        Self {
            bench,
            script,
            bundle,
            root,
        }
    }

    /// The script, which finds its bundle beside itself.
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command
            .arg(&self.script)
            .env("DORMOUSE_ROOT", &self.root)
            .env("DORMOUSE_STATE", self.state());
        command
    }

    fn state(&self) -> PathBuf {
        self.root.join("var/lib/dormouse/catch-up")
    }

    /// What the script left, which is as its schema says.
    fn result(&self) -> serde_json::Value {
        let result =
            serde_json::from_slice(&std::fs::read(self.state().join("result.json")).unwrap())
                .unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/caught-up-v1.json");
        let schema = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&result)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}\n{result:#}");
        result
    }

    fn status(&self) -> String {
        std::fs::read_to_string(self.root.join("var/lib/dpkg/status")).unwrap()
    }

    fn installed(&self, version: &str) -> usize {
        let version = format!("Version: {version}\n");
        self.status()
            .split("\n\n")
            .filter(|record| {
                record.contains("Status: install ok installed\n") && record.contains(&version)
            })
            .count()
    }
}

fn of_bundle(file: &Path) -> PlannedPackage {
    let mut package = planned(&read(file).0, Some("1"), &[]);
    package.filename = format!("pool/{}", file.file_name().unwrap().to_str().unwrap());
    package
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn passes(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    errors(&output)
}

#[track_caller]
fn fails(command: &mut Command, why: &str) {
    let output = command.output().unwrap();
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(why), "{said}");
}

/// A process that holds the lock that apt and dpkg take, until it is let go.
struct Holder(Child);

impl Holder {
    fn of(root: &Path) -> Self {
        let program = "import fcntl, sys
lock = open(sys.argv[1], 'w')
fcntl.lockf(lock, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()";
        let mut child = Command::new("python3")
            .args(["-c", program])
            .arg(root.join("var/lib/dpkg/lock-frontend"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs python3");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn another_programs_work_on_the_packages_is_waited_for() {
    let scene = Scene::new(&[("one", "")], &[]);
    let holder = Holder::of(&scene.root);
    let before = scene.status();
    fails(
        scene.command().env("DORMOUSE_LOCK_SECONDS", "2"),
        "(python3) still holds dpkg's lock",
    );
    assert_eq!(scene.status(), before);

    let mut waiting = scene.command().stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting for process") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it did not wait");
    }
    assert_eq!(scene.installed("2"), 0);
    drop(holder);
    // What it says further must not be lost to a closed pipe.
    std::io::copy(&mut said, &mut std::io::sink()).unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(scene.installed("2"), 1);
    let log = std::fs::read_to_string(scene.state().join("log")).unwrap();
    assert!(
        log.contains("waiting for process") && log.contains("Setting up one (2)"),
        "{log}"
    );
}

#[test]
fn two_runs_at_a_time_are_one_too_many() {
    let scene = Scene::new(&[("one", "")], &[]);
    std::fs::create_dir_all(scene.state()).unwrap();
    let mut other = Command::new("flock")
        .arg(scene.state().join("lock"))
        .args(["sh", "-c", "echo held; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs flock");
    let mut line = String::new();
    BufReader::new(other.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    fails(&mut scene.command(), "another catch-up is running");
    assert_eq!(scene.installed("1"), 1);
    other.stdin.take().unwrap().flush().unwrap();
    other.wait().unwrap();
    passes(&mut scene.command());
    assert_eq!(scene.installed("2"), 1);
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let scene = Scene::new(&[("one", "Installed-Size: 9999999999\n")], &[]);
    let before = see(&scene.root);
    fails(&mut scene.command(), "KiB free, and 20000032766 are needed");
    assert_eq!(see(&scene.root), before);
}

#[test]
fn what_pre_depends_on_another_of_the_bundle_gets_a_round_of_its_own() {
    let scene = Scene::new(
        &[("early", ""), ("late", "Pre-Depends: early (= 2)\n")],
        &[],
    );
    // All at once, dpkg takes the second only once the first is configured.
    let at_once = scene.bench.copy("at-once");
    let files = ["early_2_amd64.deb", "late_2_amd64.deb"];
    let mut plain = dpkg(&at_once);
    plain.arg("--install");
    plain.args(files.map(|file| scene.bundle.join("packages").join(file)));
    assert!(!plain.output().unwrap().status.success());
    let said = passes(&mut scene.command());
    assert!(said.contains("installing 2 packages") && said.contains("installing 1 packages"));
    assert_eq!(scene.installed("2"), 2);
}

#[test]
fn a_package_that_cannot_be_installed_ends_the_run_with_dpkgs_words() {
    let scene = Scene::new(&[("one", ""), ("two", "Depends: absent\n")], &[]);
    fails(&mut scene.command(), "two depends on absent");
    assert!(!scene.state().join("result.json").exists());
    // What could be done is done, and again it ends.
    fails(&mut scene.command(), "dpkg did not install 1 packages");
    assert_eq!(scene.installed("2"), 1);
}

#[test]
fn what_was_cut_off_is_gone_on_from() {
    let scene = Scene::new(&[("one", ""), ("two", "")], &[]);
    let deb = scene.bundle.join("packages/one_2_amd64.deb");
    assert!(
        dpkg(&scene.root)
            .arg("--unpack")
            .arg(&deb)
            .status()
            .unwrap()
            .success()
    );
    // As dpkg leaves a package whose unpacking it did not end.
    let status = scene.status();
    let at = status.find("Package: two\n").unwrap();
    let (head, tail) = status.split_at(at);
    let tail = tail.replacen(
        "install ok installed",
        "install reinstreq half-installed",
        1,
    );
    std::fs::write(
        scene.root.join("var/lib/dpkg/status"),
        format!("{head}{tail}"),
    )
    .unwrap();
    passes(&mut scene.command());
    assert_eq!(scene.installed("2"), 2);
    assert_eq!(scene.result()["outcome"], "done");

    // Nothing is left to do: the bundle may be gone.
    std::fs::remove_dir_all(scene.bundle.join("packages")).unwrap();
    let said = passes(&mut scene.command());
    assert!(!said.contains("installing"), "{said}");
}

#[test]
fn a_restart_is_asked_for_until_it_was_seen() {
    let scene = Scene::new(&[("one", "")], &["one 2 is the kernel"]);
    let boot = |boot: &str| {
        let mut command = scene.command();
        command.env("DORMOUSE_BOOT", boot);
        command
    };
    for _ in 0..2 {
        let said = passes(&mut boot("first"));
        assert!(said.contains("must be started anew") && said.contains("- one 2 is the kernel"));
        assert_eq!(scene.result()["reboot"], "yes");
    }
    // The script that it left behind, without a bundle.
    let left = scene.state().join("catch-up.sh");
    std::fs::remove_dir_all(&scene.bundle).unwrap();
    let output = run_script(&left, &scene.root.join("nowhere"), &scene.root);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(scene.result()["reboot"], "done");
    assert_eq!(scene.result()["outcome"], "done");
}

#[test]
fn what_is_installed_after_a_restart_asks_for_another() {
    let scene = Scene::new(&[("one", "")], &["one 2 is the kernel"]);
    passes(scene.command().env("DORMOUSE_BOOT", "first"));
    let older = scene.bench.folder.path().join("one_1_amd64.deb");
    let mut downgrade = dpkg(&scene.root);
    downgrade.args(["--force-downgrade", "--install"]);
    assert!(downgrade.arg(older).status().unwrap().success());
    passes(scene.command().env("DORMOUSE_BOOT", "second"));
    assert_eq!(scene.result()["reboot"], "yes");
    passes(scene.command().env("DORMOUSE_BOOT", "third"));
    assert_eq!(scene.result()["reboot"], "done");
}

#[test]
fn a_package_that_changes_its_architecture_is_the_same_package() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "one",
        version: "1",
        fields: "Architecture: all\n",
        ..Recipe::default()
    });
    bench.install(&[&old]);
    let new = bench.build(&Recipe {
        name: "one",
        version: "2",
        ..Recipe::default()
    });
    let script = bench.folder.path().join("catch-up.sh");
    let catch_up = catch_up(&bench, &plan(vec![of_bundle(&new)]));
    std::fs::write(&script, catch_up.script().unwrap()).unwrap();
    let root = bench.copy("woken");
    let output = run_script(&script, bench.folder.path(), &root);
    assert!(output.status.success(), "{}", errors(&output));
    let status = std::fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
    assert!(status.contains("Version: 2\n") && !status.contains("Architecture: all\n"));
}
