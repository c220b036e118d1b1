//! Runs over an estate: stages, canaries, change windows, first sightings, and checks of files, from disk to report.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dormouse_block::Digest;
use dormouse_engine::{Keys, Pipeline, RunOptions, RunOutcome, Silent};
use dormouse_evidence::SigningKey;

use crate::world::{World, run};

const STATUS: &str = "Package: tool\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n\n";

/// A library of machines that have `tool` at version 1, and a folder of packages that has version 2.
struct Estate {
    world: World,
    folder: PathBuf,
    baseline: String,
}

impl Estate {
    fn new(machines: &[&str]) -> Self {
        let world = World::new();
        for machine in machines {
            let files = [
                crate::world::OS,
                ("var/lib/dpkg/status", STATUS),
                ("var/lib/dpkg/info/format", "1\n"),
                ("var/lib/dpkg/info/tool.list", "/.\n/opt\n/opt/tool\n"),
                ("opt/tool", "old\n"),
                ("etc/timezone", "Asia/Tokyo\n"),
                ("etc/ssh/sshd_config", "PermitRootLogin yes\n"),
            ];
            world.disk(&format!("{machine}.qcow2"), "qcow2", &files);
        }
        let folder = world.library.parent().unwrap().to_owned();
        let build = folder.join("build");
        fs::create_dir_all(build.join("DEBIAN")).unwrap();
        fs::create_dir_all(build.join("opt")).unwrap();
        fs::write(build.join("opt/tool"), "new\n").unwrap();
        let control =
            "Package: tool\nVersion: 2\nArchitecture: all\nMaintainer: x\nDescription: x\n";
        fs::write(build.join("DEBIAN/control"), control).unwrap();
        fs::create_dir_all(folder.join("packages")).unwrap();
        let deb = folder.join("packages/tool_2_all.deb");
        let from = build.to_str().unwrap();
        run(
            "dpkg-deb",
            &[
                "--root-owner-group",
                "-Zxz",
                "-b",
                from,
                deb.to_str().unwrap(),
            ],
        );
        let bytes = fs::read(&deb).unwrap();
        let index = format!(
            "{control}Filename: ./tool_2_all.deb\nSize: {}\nSHA256: {}\n\n",
            bytes.len(),
            Digest::of(&bytes).hex()
        );
        fs::write(folder.join("packages/Packages"), &index).unwrap();
        let baseline = format!(
            "name = 'b'\n[minimum-versions]\ntool = '2'\n[[repository]]\nname = 'packages'\ntrusted = ['{}']\n\
             [[deadlines.rule]]\nid = 'all'\nwithin = '10 days'\nfrom = 'detected'\n",
            Digest::of(&index)
        );
        Self {
            world,
            folder,
            baseline,
        }
    }

    fn run(&self, estate: &str, as_of: &str) -> RunOutcome {
        self.run_as("until = 'verify'\n", estate, as_of, "")
    }

    /// As [`Estate::run`], with more in its pipeline, and a state and results of that name.
    fn run_as(&self, more: &str, estate: &str, as_of: &str, name: &str) -> RunOutcome {
        let baseline = self.folder.join("b.toml");
        fs::write(&baseline, &self.baseline).unwrap();
        let path = self.folder.join("estate.toml");
        fs::write(&path, estate).unwrap();
        let pipeline = format!(
            "name = 'p'\nbaseline = '{}'\nrepositories = ['{}']\n{more}",
            baseline.display(),
            self.folder.join("packages").display()
        );
        let state = crate::world::open_state(&self.folder.join(format!("state{name}")));
        let options = RunOptions {
            pipeline: Pipeline::parse(&pipeline).unwrap(),
            library: self.world.library.clone(),
            output: self.folder.join(format!("results{name}")),
            repositories: Vec::new(),
            keyring: None,
            baseline: None,
            only: BTreeSet::new(),
            feeds: Vec::new(),
            estate: Some(path),
            allow_backing: Vec::new(),
            keys: Keys::default(),
            as_of: Some(as_of.parse().unwrap()),
            now: as_of.parse().unwrap(),
            jobs: Some(1),
            tool: "test".into(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let signer = SigningKey::from_seed([7; 32]);
        dormouse_engine::run(&options, &state, Some(&signer), &Silent).unwrap()
    }
}

fn actions(outcome: &RunOutcome) -> Vec<(String, String)> {
    let machines = outcome.report.machines.iter();
    machines
        .map(|machine| (machine.machine.clone(), machine.points[0].action.clone()))
        .collect()
}

#[track_caller]
fn did(outcome: &RunOutcome, machine: &str, what: &str) {
    let all = actions(outcome);
    let action = all.iter().find(|(name, _)| name == machine);
    assert!(
        action.is_some_and(|(_, action)| action.contains(what)),
        "{machine} {what}: {all:?}"
    );
}

const STAGES: &str = "[[machine]]\nnames = ['*']\ncategory = 'production'\n[[machine]]\nnames = ['t*']\ncategory = 'test'\n\
    [[stage]]\ncategory = 'test'\n[[stage]]\ncategory = 'production'\nafter = 'test'\nsoak = '3 days'\ncanary = '1 day'\n";

#[test]
fn an_update_goes_from_stage_to_stage_and_from_the_first_alike_to_the_others() {
    let estate = Estate::new(&["t1", "p1", "p2"]);
    let first = estate.run(STAGES, "2026-02-01T00:00:00Z");
    did(&first, "t1", "patched: 1 packages");
    did(
        &first,
        "p1",
        "postponed: tool 2 was taken by 0 of 1 machines of the stage test",
    );
    let soaking = estate.run(STAGES, "2026-02-02T00:00:00Z");
    did(
        &soaking,
        "p1",
        "postponed: tool 2 stands in the stage test and may come on at 2026-02-04T00:00:00Z",
    );
    let soaked = estate.run(STAGES, "2026-02-04T00:00:00Z");
    did(&soaked, "p1", "patched: 1 packages");
    did(
        &soaked,
        "p2",
        "postponed: p1 goes first of 2 machines alike",
    );
    let followed = estate.run(STAGES, "2026-02-05T00:00:00Z");
    did(&followed, "p2", "patched: 1 packages");

    // What was seen first is counted from then on.
    estate.run(STAGES, "2026-02-11T00:00:00Z");
    let state = crate::world::open_state(&estate.folder.join("state"));
    let (_, rows) = state
        .database
        .query(
            "select since, until, overdue from deadlines where machine = 'p2' order by rowid desc limit 1",
            &[],
        )
        .unwrap();
    assert_eq!(
        rows,
        [["2026-02-01T00:00:00Z", "2026-02-11T00:00:00Z", "1"]]
    );
}

#[test]
fn a_changed_category_reworks_the_open_plan_of_that_machine_alone() {
    let estate = Estate::new(&["p1", "p2"]);
    let stages = STAGES.replace("canary = '1 day'\n", "");
    let before = estate.run(&stages, "2026-02-01T00:00:00Z");
    did(&before, "p1", "postponed");
    did(&before, "p2", "postponed");
    let moved = stages.replace("names = ['t*']", "names = ['p1']");
    let after = estate.run(&moved, "2026-02-01T00:00:00Z");
    did(&after, "p1", "patched");
    did(&after, "p2", "postponed: tool 2 was taken by 0 of 1");
}

#[test]
fn a_closed_window_postpones_in_the_machines_own_time_and_a_missed_deadline_is_said() {
    let estate = Estate::new(&["p1"]);
    let window = |days: &str| {
        format!("[[window]]\nid = 'night'\ndays = [{days}]\nstart = '22:00'\nlasts = '2 hours'\n")
    };
    // 22:00 in Tokyo, as the guest's own /etc/timezone says, is 13:00 in UTC.
    let closed = estate.run(&window(""), "2026-02-01T12:00:00Z");
    did(
        &closed,
        "p1",
        "postponed: no change window is open; the next, night, opens at 2026-02-01T13:00:00Z",
    );
    assert!(!actions(&closed)[0].1.contains("deadline"));
    let rare = estate.run(&window("'28'"), "2026-02-01T12:00:00Z");
    did(
        &rare,
        "p1",
        "; the deadline 2026-02-11T12:00:00Z is over before the next window",
    );
    let open = estate.run(&window(""), "2026-02-02T13:30:00Z");
    did(&open, "p1", "patched: 1 packages");
}

#[test]
fn checks_are_asked_of_the_guest_while_it_is_open() {
    let mut estate = Estate::new(&["p1"]);
    estate.baseline.push_str(
        "[[setting]]\nid = 'ssh-root'\npaths = ['/etc/ssh/sshd_config']\nkey = 'PermitRootLogin'\nseparator = ' '\nvalues = ['no']\n\
         [[file]]\nid = 'tool'\npath = '/opt/tool'\nmode-at-most = '0755'\nowner = 'root'\n",
    );
    let outcome = estate.run("", "2026-02-01T00:00:00Z");
    let findings: Vec<_> = outcome.report.machines[0].points[0]
        .findings
        .iter()
        .map(|finding| (finding.package.as_str(), finding.installed.as_str()))
        .collect();
    assert!(
        findings.contains(&("ssh-root", "yes (/etc/ssh/sshd_config line 1)")),
        "{findings:?}"
    );
    assert!(!findings.iter().any(|(package, _)| *package == "tool-mode"));
}

#[test]
fn what_is_not_patched_is_told_when_it_may_be_and_one_bundle_is_for_all() {
    let estate = Estate::new(&["p1", "p2"]);
    let window = "[[window]]\nid = 'night'\nstart = '22:00'\nlasts = '2 hours'\n";
    let pipeline = "until = 'report'\ninject = 'never'\nbundle = 'folder'\n";
    let run = |name| estate.run_as(pipeline, window, "2026-02-01T12:00:00Z", name);
    let outcome = run("-a");
    did(&outcome, "p1", "catch-up plan of 1 packages");
    let results = estate.folder.join("results-a");
    let read = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(results.join(path)).unwrap()).unwrap()
    };
    let plan = read("catch-up/p1/active.json");
    let when = &plan["when"];
    assert!(
        when["not-now"]
            .as_str()
            .unwrap()
            .contains("no change window is open")
    );
    assert_eq!(when["slots"][0]["from"], "2026-02-01T13:00:00Z");
    assert_eq!(
        when["slots"][0]["local"],
        "2026-02-01T22:00:00+09:00[Asia/Tokyo]"
    );
    assert_eq!(when["deadline"], "2026-02-11T12:00:00Z");
    assert_eq!(plan["recommended"]["route"], "discard-and-patch-cold");

    let manifest = read("catch-up/bundle/manifest.json");
    assert_eq!(manifest["plans"].as_array().unwrap().len(), 2);
    assert_eq!(manifest["packages"].as_object().unwrap().len(), 1);
    let package = results.join("catch-up/bundle/packages/tool_2_all.deb");
    assert_eq!(
        fs::read(&package).unwrap(),
        fs::read(estate.folder.join("packages/tool_2_all.deb")).unwrap()
    );
    // Running again leaves it as it is.
    let inode = |path: &PathBuf| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&package);
    let again = run("-a");
    assert_eq!(again.bundle, outcome.bundle);
    assert!(outcome.bundle.unwrap().is_file());
    assert_eq!(inode(&package), before);

    // A package file that is not what its index says keeps the bundle from being made, and nothing else.
    let deb = estate.folder.join("packages/tool_2_all.deb");
    let mut bytes = fs::read(&deb).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&deb, bytes).unwrap();
    let broken = run("-b");
    assert!(!broken.complete && broken.bundle.is_none());
    did(&broken, "p1", "catch-up plan of 1 packages");
    assert!(!estate.folder.join("results-b/catch-up/bundle").exists());
    let left = fs::read_dir(estate.folder.join("results-b/catch-up")).unwrap();
    let partial = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with('.')
    });
    assert_eq!(partial.count(), 0);
}
