//! A plan carried out from beginning to end: draft, record, result read back; the first boot and the catch-up run for real.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use dormouse_block::{Digest, Error, Locator};
use dormouse_filesystem::Guest;
use dormouse_overlay::PayloadReader;
use dormouse_packages::RunningKernel;
use dormouse_packages::dpkg::Database;
use dormouse_remedy::deb::Unpacked;
use dormouse_remedy::{
    CatchUp, CatchUpStep, Circumstances, Decision, DiskKernel, FirstBootStep, Injected, Injection,
    KernelRelation, Manner, Materials, Only, Plan, PlannedPackage, Sleep, Verification,
    WHOLE_PACKAGE, Wake, When, WokenKernel, draft_injection, verify,
};

use crate::host::{HostTree, realise};
use crate::root::{Bench, Recipe, read};

pub(crate) fn planned(deb: &Unpacked, installed: Option<&str>, needs: &[&str]) -> PlannedPackage {
    PlannedPackage {
        name: deb.control.package().into(),
        architecture: deb.control.architecture().into(),
        version: deb.control.version().into(),
        installed: installed.map(Into::into),
        requested: installed.is_some(),
        automatic: false,
        because: None,
        release: None,
        index: None,
        priority: None,
        payload: deb.payload,
        size: deb.size,
        installed_kib: 1,
        filename: format!(
            "pool/{}_{}_amd64.deb",
            deb.control.package(),
            deb.control.version()
        ),
        suite: "test".into(),
        source: deb.control.package().into(),
        needs: needs.iter().map(|&name| name.to_owned()).collect(),
        decision: None,
        configured: None,
        scripts: Vec::new(),
    }
}

pub(crate) fn plan(packages: Vec<PlannedPackage>) -> Plan {
    Plan {
        schema: Plan::SCHEMA.into(),
        at: Locator::machine("web-01").point("active"),
        as_of: "2026-11-01T00:00:00Z".parse().unwrap(),
        only: Only::All,
        payload_bytes: 1,
        expected_bytes: 1,
        packages,
        fixes: Vec::new(),
        at_first_boot: false,
        blocked: Vec::new(),
        suites: Vec::new(),
        reboot: Vec::new(),
        triggers: Vec::new(),
        first_boot: Vec::new(),
    }
}

/// Package files at hand, and how their bytes are found.
pub(crate) struct Files {
    pub(crate) unpacked: BTreeMap<Digest, Arc<Unpacked>>,
    pub(crate) payloads: PayloadReader,
}

fn files(paths: &[&Path]) -> Files {
    let mut unpacked = BTreeMap::new();
    let mut data = BTreeMap::new();
    for path in paths {
        let (deb, content) = read(path);
        data.insert(deb.payload, (std::fs::read(path).unwrap(), content));
        unpacked.insert(deb.payload, Arc::new(deb));
    }
    let payloads: PayloadReader = Arc::new(move |payload, offset, size| {
        let (whole, content) = data
            .get(&payload)
            .ok_or_else(|| Error::corrupt("no such payload"))?;
        let size = usize::try_from(size).unwrap();
        let bytes = if offset == WHOLE_PACKAGE {
            assert_eq!(size, whole.len());
            whole.clone()
        } else {
            let from = usize::try_from(offset).unwrap();
            content[from..from + size].to_vec()
        };
        Ok(Box::new(std::io::Cursor::new(bytes)))
    });
    Files { unpacked, payloads }
}

fn inject(bench: &Bench, plan: &Plan, files: &Files) -> Injected {
    draft_injection(
        plan,
        &Materials {
            guest: Arc::new(Guest::of(HostTree::read(&bench.root()))),
            packages: &files.unpacked,
            payloads: files.payloads.clone(),
            now: "2026-11-20T12:00:00Z".parse().unwrap(),
            limits: dormouse_scripts::Limits::default(),
        },
    )
    .unwrap()
}

fn decision<'a>(injection: &'a Injection, name: &str) -> &'a Decision {
    let found = injection
        .packages
        .iter()
        .find(|package| package.name == name);
    &found.unwrap().decision
}

/// One package that goes in, one whose script cannot be interpreted, one that needs that one, and one that dpkg refuses.
pub(crate) fn scene(bench: &Bench) -> (Plan, Files) {
    let build = |name, version, fields, files, control| {
        bench.build(&Recipe {
            name,
            version,
            fields,
            files,
            control,
        })
    };
    let clash = build("clash", "1", "", &[("usr/bin/clash", "1")], &[]);
    let old = [
        build(
            "good",
            "1",
            "",
            &[("usr/bin/good", "1"), ("etc/good.conf", "1")],
            &[("conffiles", "/etc/good.conf\n")],
        ),
        build("hard", "1", "", &[("usr/bin/hard", "1")], &[]),
        build(
            "needy",
            "1",
            "Depends: hard\n",
            &[("usr/bin/needy", "1")],
            &[],
        ),
        build("bad", "1", "", &[("usr/bin/bad", "1")], &[]),
    ];
    let mut installed: Vec<&Path> = old.iter().map(std::path::PathBuf::as_path).collect();
    installed.push(&clash);
    bench.install(&installed);
    let new = [
        build(
            "good",
            "2",
            "",
            &[
                ("usr/bin/good", "2"),
                ("etc/good.conf", "2"),
                ("usr/share/good/a", "a"),
            ],
            &[("conffiles", "/etc/good.conf\n")],
        ),
        build(
            "fresh",
            "2",
            "",
            &[("usr/bin/fresh", "2")],
            &[("postinst", "#!/bin/sh\ncat /proc/uptime >/dev/null\n")],
        ),
        build(
            "needy",
            "2",
            "Depends: hard (>= 2)\n",
            &[("usr/bin/needy", "2")],
            &[],
        ),
        build(
            "hard",
            "2",
            "",
            &[("usr/bin/hard", "2")],
            &[("preinst", "#!/bin/sh\nno-such-command --really\n")],
        ),
        build(
            "bad",
            "2",
            "",
            &[("usr/bin/bad", "2"), ("usr/bin/clash", "2")],
            &[],
        ),
    ];
    let paths: Vec<&Path> = new.iter().map(std::path::PathBuf::as_path).collect();
    let files = files(&paths);
    let unpacked: Vec<Unpacked> = paths.iter().map(|path| read(path).0).collect();
    let needs: [&[&str]; 5] = [&[], &[], &["hard:amd64"], &[], &[]];
    let packages = unpacked
        .iter()
        .zip(needs)
        .map(|(deb, needs)| {
            let installed = (deb.control.package() != "fresh").then_some("1");
            planned(deb, installed, needs)
        })
        .collect();
    bench.write("etc/init.d/.keep", "");
    bench.write("usr/lib/systemd/systemd", "");
    bench.write(
        "var/lib/apt/extended_states",
        "Package: x\nArchitecture: amd64\nAuto-Installed: 1\n\n",
    );
    (plan(packages), files)
}

#[test]
fn what_cannot_go_in_waits_and_takes_along_what_needs_it() {
    let bench = Bench::new();
    let (mut plan, files) = scene(&bench);
    let injected = inject(&bench, &plan, &files);
    let injection = &injected.injection;
    assert_eq!(*decision(injection, "good"), Decision::Inject);
    assert_eq!(*decision(injection, "fresh"), Decision::Inject);
    assert!(matches!(
        decision(injection, "hard"),
        Decision::Defer {
            script: Some(_),
            ..
        }
    ));
    // It comes before the one that it needs, and is taken back when that one turns out to be deferred.
    assert!(
        matches!(decision(injection, "needy"), Decision::Defer { why, .. } if why.contains("hard"))
    );
    assert!(
        matches!(decision(injection, "bad"), Decision::Refuse { why } if why.contains("/usr/bin/clash"))
    );
    assert!(matches!(
        injection.first_boot.as_slice(),
        [FirstBootStep::Configure { packages }, FirstBootStep::Install { package: one, .. }, FirstBootStep::Install { package: two, .. }]
            if packages == &["fresh:amd64"] && one == "needy" && two == "hard"
    ));
    plan.decide(injection);
    assert!(
        plan.packages
            .iter()
            .all(|package| package.decision.is_some())
    );

    let after = bench.copy("after");
    realise(&injected.draft, &after);
    let text = |path: &str| std::fs::read_to_string(after.join(path)).unwrap();
    assert_eq!(text("usr/bin/good"), "2");
    assert_eq!(text("usr/bin/hard"), "1");
    assert!(
        !after
            .join("etc/systemd/system/multi-user.target.wants")
            .join("none")
            .exists()
    );
    let link = std::fs::read_link(
        after.join("etc/systemd/system/multi-user.target.wants/dormouse-first-boot.service"),
    )
    .unwrap();
    assert_eq!(
        link,
        Path::new("/etc/systemd/system/dormouse-first-boot.service")
    );
    assert_eq!(text("var/lib/dormouse/waiting").lines().count(), 2);
    assert!(text("var/lib/apt/extended_states").ends_with(
        "Auto-Installed: 1\n\nPackage: fresh\nArchitecture: amd64\nAuto-Installed: 1\n\n"
    ));
    let again = inject(&bench, &plan, &files);
    assert_eq!(again.injection, injected.injection);
}

#[test]
fn what_is_asked_to_wait_changes_no_package_and_is_all_there_at_the_first_boot() {
    let bench = Bench::new();
    let (mut plan, files) = scene(&bench);
    plan.at_first_boot = true;
    plan.reboot = vec!["good 2 is the kernel".into()];
    // Nothing is unpacked for it.
    let bare = Files {
        unpacked: BTreeMap::new(),
        payloads: files.payloads.clone(),
    };
    let injected = inject(&bench, &plan, &bare);
    let injection = &injected.injection;
    assert!(injection.packages.iter().all(|package| {
        matches!(&package.decision, Decision::Defer { why, script: None } if why.contains("asked to wait"))
    }));
    let installs = injection.first_boot.iter().filter_map(|step| match step {
        FirstBootStep::Install { package, .. } => Some(package.as_str()),
        _ => None,
    });
    assert_eq!(
        installs.collect::<Vec<_>>(),
        ["good", "fresh", "needy", "hard", "bad"]
    );
    assert!(matches!(
        injection.first_boot.last(),
        Some(FirstBootStep::Restart { why }) if why == &plan.reboot
    ));
    let after = bench.copy("after");
    realise(&injected.draft, &after);
    let text = |path: &str| std::fs::read_to_string(after.join(path)).unwrap();
    assert_eq!(text("usr/bin/good"), "1");
    assert_eq!(
        text("var/lib/dpkg/status"),
        std::fs::read_to_string(bench.root().join("var/lib/dpkg/status")).unwrap()
    );
    let waiting = text("var/lib/dormouse/waiting");
    for line in waiting.lines() {
        let mut words = line.split(' ');
        let (digest, file) = (words.next().unwrap(), words.next().unwrap());
        let bytes = std::fs::read(after.join("var/lib/dormouse/pending").join(file)).unwrap();
        assert_eq!(Digest::of(bytes).hex(), digest);
    }
    assert_eq!(waiting.lines().count(), 5);
}

#[test]
fn the_result_is_read_back_and_every_deviation_is_named() {
    let bench = Bench::new();
    let (plan, files) = scene(&bench);
    let injected = inject(&bench, &plan, &files);
    // The base's own nodes must stay what they are, so it is hard links that are changed here.
    let after = bench.folder.path().join("after");
    crate::root::run(Command::new("cp").arg("-al").arg(bench.root()).arg(&after));
    realise(&injected.draft, &after);
    let check = |injection: &Injection| -> Verification {
        // A folder's inodes differ from its copy's; what is compared is everything else.
        let base = Guest::of(HostTree::read(&bench.root()).without_directory_nodes());
        verify(
            &base,
            &Guest::of(HostTree::read(&after).without_directory_nodes()),
            injection,
        )
        .unwrap()
    };
    let good = check(&injected.injection);
    assert!(good.passed, "{:#?}", good.deviations);
    assert!(good.paths > 10 && good.others > 5 && good.bytes > 1000);

    std::fs::write(after.join("usr/share/good/a"), "b").unwrap();
    std::fs::write(after.join("usr/bin/stray"), "x").unwrap();
    let fresh = after.join("usr/bin/fresh");
    std::fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::remove_file(after.join("usr/bin/needy")).unwrap();
    let bad = check(&injected.injection);
    assert!(!bad.passed);
    let named = |path: &str| {
        bad.deviations
            .iter()
            .any(|one| one.path.as_ref().is_some_and(|at| at.to_string() == path))
    };
    for path in [
        "/usr/share/good/a",
        "/usr/bin/stray",
        "/usr/bin/fresh",
        "/usr/bin/needy",
    ] {
        assert!(named(path), "{path} in {:#?}", bad.deviations);
    }
    assert_eq!(bad.deviations.len(), 5, "{:#?}", bad.deviations);
}

#[test]
fn facts_are_as_their_schemas_say() {
    let bench = Bench::new();
    let (mut plan, files) = scene(&bench);
    let injected = inject(&bench, &plan, &files);
    valid("plan-v1", &serde_json::to_value(&plan).unwrap());
    plan.decide(&injected.injection);
    plan.only = Only::Packages(["a".to_owned()].into());
    let json = serde_json::to_value(&plan).unwrap();
    valid("plan-v1", &json);
    assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan);
    let json = serde_json::to_value(&injected.injection).unwrap();
    valid("injection-v1", &json);
    assert_eq!(
        serde_json::from_value::<Injection>(json).unwrap(),
        injected.injection
    );
    let base = Guest::of(HostTree::read(&bench.root()));
    let verification = verify(&base, &base, &injected.injection).unwrap();
    assert!(!verification.passed);
    valid(
        "verification-v1",
        &serde_json::to_value(&verification).unwrap(),
    );
    let catch_up = catch_up(&bench, &plan);
    let json = serde_json::to_value(&catch_up).unwrap();
    valid("catch-up-v2", &json);
    assert_eq!(serde_json::from_value::<CatchUp>(json).unwrap(), catch_up);
}

pub(crate) fn valid(kind: &str, fact: &serde_json::Value) {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    let path = schemas.join(format!("{kind}.json"));
    let schema: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(fact)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{kind}: {errors:#?}\n{fact:#}");
    let mut more = fact.clone();
    more["surplus"] = true.into();
    assert!(
        !validator.is_valid(&more),
        "{kind} admits what it does not know"
    );
}

/// A machine whose memory was saved.
pub(crate) fn suspended() -> Circumstances {
    Circumstances {
        sleep: Sleep::Suspended { bytes: 1 << 20 },
        image: "web-01".into(),
        point: "active".into(),
        disk_bytes: 1 << 30,
        ..Circumstances::default()
    }
}

/// What is done unless a baseline says otherwise.
pub(crate) fn usual() -> Manner {
    Manner {
        triage: Vec::new(),
        keep_memory: true,
        isolate: true,
    }
}

pub(crate) fn catch_up(bench: &Bench, plan: &Plan) -> CatchUp {
    let guest = Guest::of(HostTree::read(&bench.root()));
    let database = Database::read(&guest).unwrap().unwrap();
    CatchUp::make(&Wake {
        plan,
        untouchable: vec!["the point holds saved memory".into()],
        circumstances: suspended(),
        manner: usual(),
        kernel: None,
        guest: &guest,
        database: &database,
        when: When {
            deadline: Some("2026-12-01T00:00:00Z".parse().unwrap()),
            ..When::default()
        },
    })
    .unwrap()
}

/// Runs a catch-up script on a private root.
pub(crate) fn run_script(script: &Path, bundle: &Path, root: &Path) -> Output {
    Command::new("sh")
        .arg(script)
        .arg(bundle)
        .env("LC_ALL", "C")
        .env("DORMOUSE_ROOT", root)
        .env("DORMOUSE_STATE", root.join("var/lib/dormouse/catch-up"))
        .output()
        .unwrap()
}

pub(crate) fn shellcheck(path: &Path) {
    let output = Command::new("shellcheck")
        .arg("--shell=sh")
        .arg(path)
        .output()
        .expect("this test needs shellcheck");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Nothing is to be installed, and still the machine runs what its disk no longer starts.
#[test]
fn a_machine_that_wakes_with_an_older_kernel_is_started_anew() {
    let bench = Bench::new();
    let guest = Guest::of(HostTree::read(&bench.root()));
    let database = Database::read(&guest).unwrap().unwrap();
    let kernel = |relation: KernelRelation| WokenKernel {
        running: RunningKernel {
            system: "linux".into(),
            release: "6.1.0-9-amd64".into(),
            build: None,
            build_id: None,
            why: vec!["its own banner, in one place".into()],
        },
        on_disk: DiskKernel {
            release: "6.1.0-13-amd64".into(),
            build: None,
            why: "grub.cfg".into(),
        },
        relation,
    };
    let made = |relation: KernelRelation| {
        let wake = Wake {
            plan: &plan(Vec::new()),
            untouchable: vec!["the point holds saved memory".into()],
            circumstances: suspended(),
            manner: usual(),
            kernel: Some(kernel(relation)),
            guest: &guest,
            database: &database,
            when: When::default(),
        };
        CatchUp::make(&wake).unwrap()
    };
    let catch_up = made(KernelRelation::Older);
    valid("catch-up-v2", &serde_json::to_value(&catch_up).unwrap());
    let Some(CatchUpStep::Reboot { because }) = catch_up.steps.last() else {
        panic!("{:?}", catch_up.steps);
    };
    assert!(because[0].contains("6.1.0-9-amd64") && because[0].contains("6.1.0-13-amd64"));
    // The script says so, installs nothing, and needs nothing in its bundle.
    let script = bench.folder.path().join("catch-up.sh");
    let text = catch_up.script().unwrap();
    assert!(text.contains("reboot=yes") && text.contains("6.1.0-13-amd64"));
    std::fs::write(&script, text).unwrap();
    shellcheck(&script);
    let root = bench.copy("woken");
    let output = run_script(&script, bench.folder.path(), &root);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("installing"), "{errors}");
    let same = made(KernelRelation::Same);
    assert!(
        !same
            .steps
            .iter()
            .any(|step| matches!(step, CatchUpStep::Reboot { .. }))
    );
    assert!(same.kernel.is_some());
}

#[test]
fn a_catch_up_script_installs_once_and_a_wrong_bundle_changes_nothing() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "one",
        version: "1",
        files: &[("usr/bin/one", "1")],
        ..Recipe::default()
    });
    let dependent = bench.build(&Recipe {
        name: "daemon",
        version: "1",
        fields: "Depends: one\n",
        files: &[
            ("usr/lib/systemd/system/daemon.service", "x"),
            ("usr/lib/systemd/system/at@.service", "x"),
        ],
        ..Recipe::default()
    });
    bench.install(&[&old, &dependent]);
    let new = bench.build(&Recipe {
        name: "one",
        version: "1:2",
        files: &[("usr/bin/one", "2")],
        ..Recipe::default()
    });
    let (deb, _) = read(&new);
    let mut package = planned(&deb, Some("1"), &[]);
    package.filename = "pool/o/one/one_2_amd64.deb".into();
    let plan = plan(vec![package]);
    let catch_up = catch_up(&bench, &plan);
    let text = catch_up.script().unwrap();
    assert!(text.contains("\ndaemon.service\n") && !text.contains("at@.service"));
    let script = bench.folder.path().join("catch-up.sh");
    std::fs::write(&script, text).unwrap();
    shellcheck(&script);
    let bundle = bench.folder.path().join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    let root = bench.copy("woken");
    let before = crate::host::see(&root);

    let refused = |why: &str| {
        let output = run_script(&script, &bundle, &root);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(why), "{errors}");
        assert_eq!(
            crate::host::see(&root),
            before,
            "a wrong bundle changed something"
        );
    };
    refused("has no one_2_amd64.deb");
    let mut bytes = std::fs::read(&new).unwrap();
    std::fs::write(bundle.join("one_2_amd64.deb"), &bytes[1..]).unwrap();
    refused("bytes long");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(bundle.join("one_2_amd64.deb"), &bytes).unwrap();
    refused("is not the package file planned");
    std::fs::copy(&new, bundle.join("one_2_amd64.deb")).unwrap();

    for round in ["first", "second"] {
        let output = run_script(&script, &bundle, &root);
        assert!(
            output.status.success(),
            "{round}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            std::fs::read_to_string(root.join("usr/bin/one")).unwrap(),
            "2"
        );
        let status = std::fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
        assert!(
            status.contains("Version: 1:2\n") && !status.contains("unpacked"),
            "{status}"
        );
        assert!(root.join("var/lib/dormouse/catch-up/result.json").exists());
    }

    // Another state of the machine than the one planned for.
    let other = bench.build(&Recipe {
        name: "one",
        version: "1.5",
        files: &[("usr/bin/one", "1.5")],
        ..Recipe::default()
    });
    bench.install(&[&other]);
    let output = run_script(&script, &bundle, &bench.root());
    assert!(
        !output.status.success()
            && String::from_utf8_lossy(&output.stderr).contains("another state")
    );
}

#[test]
fn first_boot_texts_are_clean_shell() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("first-boot", dormouse_remedy::first_boot_texts::SCRIPT),
        ("init", dormouse_remedy::first_boot_texts::INIT),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        shellcheck(&path);
    }
}

#[test]
fn words_that_a_script_cannot_carry_are_refused() {
    let bench = Bench::new();
    let old = bench.build(&Recipe {
        name: "one",
        version: "1",
        ..Recipe::default()
    });
    bench.install(&[&old]);
    let mut package = planned(&read(&old).0, Some("1"), &[]);
    for evil in ["1'\nrm -rf /\n'", "END-OF-LIST\n", "$(id)", "-x", ""] {
        package.version = evil.into();
        let guest = Guest::of(HostTree::read(&bench.root()));
        let database = Database::read(&guest).unwrap().unwrap();
        let plan = plan(vec![package.clone()]);
        let wake = Wake {
            plan: &plan,
            untouchable: Vec::new(),
            circumstances: Circumstances::default(),
            manner: usual(),
            kernel: None,
            guest: &guest,
            database: &database,
            when: When::default(),
        };
        assert!(CatchUp::make(&wake).is_err(), "{evil:?}");
    }
}
