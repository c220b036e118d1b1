//! Catch-up plans: their routes, their page, and the bundle of several.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use dormouse_block::Locator;
use dormouse_filesystem::Guest;
use dormouse_packages::dpkg::Database;
use dormouse_policy::window::SlotFact;
use dormouse_remedy::{
    Bundle, CatchUp, CatchUpStep, Circumstances, Manner, PlannedPackage, RouteName, Sleep,
    Standing, Wake, When,
};

use crate::host::HostTree;
use crate::injection::{plan, planned, shellcheck, suspended, usual, valid};
use crate::root::{Bench, Recipe, read};

/// A machine with `one` in version 1, and the update to version 2 with its package file.
struct Scene {
    bench: Bench,
    update: PlannedPackage,
    file: std::path::PathBuf,
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new();
        let recipe = |version| Recipe {
            name: "one",
            version,
            files: &[("usr/bin/one", "x")],
            ..Recipe::default()
        };
        let old = bench.build(&recipe("1"));
        bench.install(&[&old]);
        let file = bench.build(&recipe("2"));
        let update = planned(&read(&file).0, Some("1"), &[]);
        Self {
            bench,
            update,
            file,
        }
    }

    fn make(
        &self,
        circumstances: Circumstances,
        manner: Manner,
        when: When,
        reboot: bool,
    ) -> CatchUp {
        let guest = Guest::of(HostTree::read(&self.bench.root()));
        let database = Database::read(&guest).unwrap().unwrap();
        let mut plan = plan(vec![self.update.clone()]);
        plan.payload_bytes = 4096;
        plan.expected_bytes = 40_000_000;
        if reboot {
            plan.reboot = vec!["one 2 is the kernel".into()];
        }
        let made = CatchUp::make(&Wake {
            plan: &plan,
            untouchable: vec!["somebody said so".into()],
            circumstances,
            manner,
            kernel: None,
            guest: &guest,
            database: &database,
            when,
        })
        .unwrap();
        valid("catch-up-v2", &serde_json::to_value(&made).unwrap());
        made
    }
}

fn possible(plan: &CatchUp) -> Vec<RouteName> {
    plan.routes
        .iter()
        .filter(|route| route.impossible.is_none())
        .map(|route| route.route)
        .collect()
}

#[test]
fn routes_are_those_that_the_machine_s_sleep_allows() {
    use RouteName::{DiscardAndPatchCold, PatchCloneAndSwitch, WakeAndCatchUp};
    let scene = Scene::new();
    let make = |here: Circumstances| scene.make(here, usual(), When::default(), false);
    let all = [WakeAndCatchUp, DiscardAndPatchCold, PatchCloneAndSwitch];

    let plan = make(suspended());
    assert_eq!(possible(&plan), all);
    assert_eq!(plan.recommended.route, WakeAndCatchUp);
    let loses = |plan: &CatchUp, name| {
        let route = plan.routes.iter().find(|route| route.route == name);
        route.unwrap().loses.join("; ")
    };
    assert_eq!(loses(&plan, WakeAndCatchUp), "");
    assert!(loses(&plan, DiscardAndPatchCold).contains("in its memory"));

    // An older state may be what others stand on.
    let older = |sleep| Circumstances {
        sleep,
        standing: Standing::Older,
        ..suspended()
    };
    let plan = make(older(Sleep::Cold));
    assert_eq!(possible(&plan), [WakeAndCatchUp, PatchCloneAndSwitch]);
    assert_eq!(plan.recommended.route, PatchCloneAndSwitch);
    assert!(!plan.page().contains("memory"), "{}", plan.page());

    let cold = Circumstances {
        sleep: Sleep::Cold,
        ..suspended()
    };
    let plan = make(cold.clone());
    assert_eq!(plan.recommended.route, DiscardAndPatchCold);
    assert_eq!(loses(&plan, DiscardAndPatchCold), "");
    let unwritable = Circumstances {
        unwritable: Some("its volume is encrypted".into()),
        ..cold
    };
    let plan = make(unwritable);
    assert_eq!(possible(&plan), [WakeAndCatchUp]);
    assert_eq!(plan.recommended.route, WakeAndCatchUp);

    let awake = Circumstances {
        sleep: Sleep::Awake,
        ..suspended()
    };
    assert_eq!(possible(&make(awake)), [WakeAndCatchUp]);
}

#[test]
fn only_waking_exposes_old_packages_and_a_clone_pays_for_the_disk() {
    let scene = Scene::new();
    let plan = scene.make(suspended(), usual(), When::default(), true);
    let by = |name| {
        let found = plan.routes.iter().find(|route| route.route == name);
        found.unwrap()
    };
    let wake = by(RouteName::WakeAndCatchUp);
    let clone = by(RouteName::PatchCloneAndSwitch);
    // Two seconds of unpacking, and a minute for the restart.
    assert_eq!(plan.cost.restart_seconds, 60);
    assert_eq!(wake.seconds, plan.cost.seconds);
    assert!((62..70).contains(&wake.seconds), "{}", wake.seconds);
    assert_eq!(wake.exposed_seconds, wake.seconds);
    assert_eq!(clone.exposed_seconds, 0);
    assert_eq!(clone.disk_bytes, (1 << 30) + 40_000_000);
    assert!(!wake.loses.is_empty());
}

#[test]
fn triage_comes_before_all_and_a_clone_leaves_the_machine_as_it_is() {
    let scene = Scene::new();
    let manner = Manner {
        triage: vec!["a finding of one asks for it".into()],
        ..usual()
    };
    let plan = scene.make(suspended(), manner, When::default(), false);
    assert!(
        matches!(plan.steps.first(), Some(CatchUpStep::ForensicTriage { because }) if because.len() == 1)
    );
    assert!(matches!(
        plan.steps.get(1),
        Some(CatchUpStep::PreserveMemory { .. })
    ));
    assert_eq!(plan.recommended.route, RouteName::PatchCloneAndSwitch);
    let bare = Manner {
        keep_memory: false,
        isolate: false,
        ..usual()
    };
    let plan = scene.make(suspended(), bare, When::default(), false);
    assert!(matches!(
        plan.steps.as_slice(),
        [CatchUpStep::Install { .. }]
    ));
    assert!(plan.script().unwrap().contains("\nisolate=no\n"));
}

#[test]
fn the_page_says_when_and_passes_no_escapes_on() {
    let scene = Scene::new();
    let instant = |text: &str| text.parse().unwrap();
    let when = When {
        not_now: Some("no change window is \u{1b}[31mopen".into()),
        slots: vec![SlotFact {
            from: instant("2026-12-05T01:00:00Z"),
            until: instant("2026-12-05T05:00:00Z"),
            window: "weekend".into(),
            local: "2026-12-05T02:00:00+01:00[Europe/Berlin]".into(),
        }],
        deadline: Some(instant("2026-12-03T00:00:00Z")),
        late: Some("the deadline 2026-12-03T00:00:00Z is over before the next window".into()),
    };
    let plan = scene.make(suspended(), usual(), when, false);
    let page = plan.page();
    for text in [
        "not now: no change window is [31mopen",
        "weekend",
        "Europe/Berlin",
        "before the next window",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains('\u{1b}'));
    assert!(
        page.lines().all(|line| line.chars().count() <= 96),
        "{page}"
    );
}

/// Writes a bundle's files into a folder, as the engine does.
fn lay_out(scene: &Scene, plans: &BTreeMap<String, CatchUp>, folder: &Path) -> Bundle {
    let bundle = Bundle::of(plans).unwrap();
    valid("bundle-v1", &serde_json::to_value(&bundle).unwrap());
    for (path, bytes) in bundle.texts(plans).unwrap() {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    for path in bundle.packages.keys() {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(&scene.file, path).unwrap();
    }
    bundle
}

fn dispatch(folder: &Path, root: &Path, name: &[&str]) -> Output {
    Command::new("sh")
        .arg(folder.join("catch-up.sh"))
        .args(name)
        .env("DORMOUSE_ROOT", root)
        .env("DORMOUSE_STATE", root.join("var/lib/dormouse/catch-up"))
        .output()
        .unwrap()
}

#[test]
fn one_bundle_serves_many_machines_and_holds_no_package_twice() {
    let scene = Scene::new();
    let mut plans = BTreeMap::new();
    for (name, id) in [
        ("web-01/active", 'a'),
        ("web-02/active", 'b'),
        ("web-02/old", 'b'),
    ] {
        let mut one = scene.make(suspended(), usual(), When::default(), false);
        let (machine, point) = name.split_once('/').unwrap();
        one.at = Locator::machine(machine).point(point);
        one.machine_id = Some(id.to_string().repeat(32));
        plans.insert(name.to_owned(), one);
    }
    let folder = tempfile::tempdir().unwrap();
    let bundle = lay_out(&scene, &plans, folder.path());
    assert_eq!(bundle.packages.len(), 1);
    assert_eq!(bundle.plans.len(), 3);
    let sums = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(folder.path())
        .output()
        .expect("this test needs sha256sum");
    assert!(
        sums.status.success(),
        "{}",
        String::from_utf8_lossy(&sums.stderr)
    );
    shellcheck(&folder.path().join("catch-up.sh"));

    // Each machine finds its own plan by its id; one with two plans must say which.
    let root = scene.bench.copy("woken");
    let id = root.join("etc/machine-id");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(&id, "b".repeat(32) + "\n").unwrap();
    let output = dispatch(folder.path(), &root, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("web-02/old"),
        "{said}"
    );
    for bad in ["web-03/active", "../web-01/active", "web-01"] {
        let output = dispatch(folder.path(), &root, &[bad]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("no plan"),
            "{said}"
        );
    }
    std::fs::write(&id, "a".repeat(32) + "\n").unwrap();
    let output = dispatch(folder.path(), &root, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let status = std::fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
    assert!(status.contains("Version: 2\n"), "{status}");
    let result =
        std::fs::read_to_string(root.join("var/lib/dormouse/catch-up/result.json")).unwrap();
    let digest = plans["web-01/active"].digest().unwrap().to_string();
    assert!(result.contains(&digest), "{result}");
}

#[test]
fn two_files_of_one_name_stand_apart_and_are_both_found() {
    let scene = Scene::new();
    let one = scene.make(suspended(), usual(), When::default(), false);
    let mut other = one.clone();
    // The same name from another repository: other bytes.
    for step in &mut other.steps {
        if let CatchUpStep::Install { payload, .. } = step {
            *payload = dormouse_block::Digest::of("other");
        }
    }
    let plans = BTreeMap::from([("a".to_owned(), other), ("b".to_owned(), one)]);
    let bundle = Bundle::of(&plans).unwrap();
    assert_eq!(bundle.packages.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    lay_out(&scene, &plans, folder.path());
    let root = scene.bench.copy("woken");
    // The copy of the other is not what its plan says; that of this one is.
    let output = dispatch(folder.path(), &root, &["a"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("nothing was changed"),
        "{said}"
    );
    let output = dispatch(folder.path(), &root, &["b"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

#[test]
fn fixes_are_made_after_the_packages_and_once() {
    let scene = Scene::new();
    let guest = Guest::of(HostTree::read(&scene.bench.root()));
    let database = Database::read(&guest).unwrap().unwrap();
    let mut made = plan(vec![scene.update.clone()]);
    let fix = |key: &str| -> dormouse_remedy::PlannedFix {
        serde_json::from_value(serde_json::json!({
            "id": "no-forwarding",
            "title": "no packets are forwarded",
            "edits": [
                {"do": "set", "path": "/etc/sysctl.d/local.conf", "key": key, "value": "it's 0", "create": true},
                {"do": "write", "path": "/etc/motd", "content": "END-OF-LIST\n$(id)"},
            ],
        }))
        .unwrap()
    };
    made.fixes = vec![fix("net.ipv4.ip_forward")];
    let plan = CatchUp::make(&Wake {
        plan: &made,
        untouchable: vec!["the point holds saved memory".into()],
        circumstances: suspended(),
        manner: usual(),
        kernel: None,
        guest: &guest,
        database: &database,
        when: When::default(),
    })
    .unwrap();
    valid("catch-up-v2", &serde_json::to_value(&plan).unwrap());
    assert!(plan.page().contains("make the fix no-forwarding"));
    let order: Vec<bool> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            CatchUpStep::Install { .. } => Some(false),
            CatchUpStep::Fix { .. } => Some(true),
            _ => None,
        })
        .collect();
    assert_eq!(order, [false, true]);
    let folder = tempfile::tempdir().unwrap();
    let plans = BTreeMap::from([("web-01/active".to_owned(), plan)]);
    lay_out(&scene, &plans, folder.path());
    shellcheck(&folder.path().join("plans/web-01/active.sh"));
    let root = scene.bench.copy("woken");
    std::fs::create_dir_all(root.join("etc/sysctl.d")).unwrap();
    for round in ["first", "second"] {
        let output = dispatch(folder.path(), &root, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{round}: {said}");
        let text = std::fs::read_to_string(root.join("etc/sysctl.d/local.conf")).unwrap();
        assert_eq!(text.matches("net.ipv4.ip_forward").count(), 1, "{text}");
        assert!(text.contains("it's 0"), "{text}");
        let motd = std::fs::read_to_string(root.join("etc/motd")).unwrap();
        assert_eq!(motd, "END-OF-LIST\n$(id)");
    }
    // What cannot be made ends the run, and it is not said to be done.
    std::fs::remove_file(root.join("etc/motd")).unwrap();
    std::fs::create_dir(root.join("etc/motd")).unwrap();
    std::fs::remove_file(root.join("var/lib/dormouse/catch-up/result.json")).unwrap();
    let output = dispatch(folder.path(), &root, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("no-forwarding is not made"),
        "{said}"
    );
    assert!(!root.join("var/lib/dormouse/catch-up/result.json").exists());
}

#[test]
fn names_that_a_bundle_cannot_carry_are_refused() {
    let scene = Scene::new();
    let plan = scene.make(suspended(), usual(), When::default(), false);
    for bad in ["", "../x", "a//b", "a b", "-x", "a/.b", "a\nb", "$(id)"] {
        let plans = BTreeMap::from([(bad.to_owned(), plan.clone())]);
        assert!(Bundle::of(&plans).is_err(), "{bad:?}");
    }
    assert!(Bundle::of(&BTreeMap::new()).is_err());
    assert!(plan.cloud_init("a\nb").is_err() && plan.ansible("a\"b").is_err());
}
