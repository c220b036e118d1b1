//! Real maintainer scripts: those of the fixtures' packages, and by hand those of the folders named by
//! `DORMOUSE_SCRIPTS_ROOT` (an unpacked guest) and `DORMOUSE_SCRIPTS_DEBS` (new packages for it).

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may fail by panicking, prepares files of its own and asks programs of the host"
)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::packages::{Package, Step, calls, debs_below, open, upgrade};
use common::{Guests, required, world_of};
use dormouse_filesystem::Guest;
use dormouse_scripts::{Limits, Outcome, World, run};

#[derive(Default)]
struct Table {
    done: BTreeMap<&'static str, u32>,
    deferred: BTreeMap<&'static str, u32>,
    stoppers: BTreeMap<String, Vec<String>>,
}

impl Table {
    fn run(&mut self, guest: &Arc<Guest>, world: &World, step: &Step) {
        let mut draft = common::draft_over(guest);
        let call = common::call_of(step);
        match run(&call, &mut draft, world, &Limits::default()) {
            Outcome::Done(_) => *self.done.entry(step.phase).or_default() += 1,
            Outcome::Deferred(deferral) => {
                assert!(
                    draft.differences().unwrap().is_empty(),
                    "a deferred script left changes"
                );
                *self.deferred.entry(step.phase).or_default() += 1;
                let what = format!("{:?}: {deferral}", deferral.reason);
                self.stoppers
                    .entry(what)
                    .or_default()
                    .push(format!("{} {}", step.package, step.phase));
            }
        }
    }

    fn print(&self, title: &str) {
        println!("{title}");
        for phase in ["prerm", "preinst", "postrm", "postinst"] {
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

#[test]
fn scripts_of_the_fixtures_are_interpreted() {
    required(&["dpkg-deb", "dpkg-maintscript-helper"]);
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
    // The helper is a shell script, and is interpreted as the guest has it: here, as the host has it.
    let mut guests = Guests::plain();
    for path in [
        "/usr/bin/dpkg-maintscript-helper",
        "/usr/share/dpkg/sh/dpkg-error.sh",
    ] {
        let bytes = std::fs::read(path).unwrap();
        guests
            .tree
            .file(path, &bytes)
            .with(|metadata| metadata.mode = 0o755);
    }
    let guest = guests.guest();
    let world = common::world();
    let mut table = Table::default();
    for packages in pairs.values() {
        let [new, old] = packages.as_slice() else {
            panic!("a pair is no pair");
        };
        for step in upgrade(old, new) {
            table.run(&guest, &world, &step);
        }
    }
    table.print("the fixtures' packages");
    for phase in ["prerm", "preinst", "postrm"] {
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
    let status = std::fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
    let world = world_of(&status);
    let guest = common::guest_of(&root).guest();
    let mut table = Table::default();
    let steps = calls(&root, &world, Path::new(&debs));
    let start = std::time::Instant::now();
    for step in &steps {
        table.run(&guest, &world, step);
    }
    let took = start.elapsed();
    table.print("the given guest");
    println!("  {} scripts in {took:?}", steps.len());
}
