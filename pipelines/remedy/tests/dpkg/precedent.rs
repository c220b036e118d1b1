//! What was drafted for one machine is taken over for those that are alike in all that was looked at, and for no others.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use dormouse_block::{Locator, Result};
use dormouse_filesystem::Guest;
use dormouse_remedy::{Injected, Materials, Plan, Precedents, draft_injection};

use crate::host::HostTree;
use crate::injection::{Files, scene};
use crate::root::Bench;

/// A machine as it is now, with package files or, where nothing may be drafted, without.
fn materials<'a>(bench: &Bench, files: &'a Files) -> Materials<'a> {
    Materials {
        guest: Arc::new(Guest::of(HostTree::read(&bench.root()))),
        packages: &files.unpacked,
        payloads: files.payloads.clone(),
        now: "2026-11-20T12:00:00Z".parse().unwrap(),
        limits: dormouse_scripts::Limits::default(),
    }
}

fn assert_same(found: &Result<Injected>, wanted: &Injected) {
    let found = found.as_ref().unwrap();
    assert_eq!(found.differences, wanted.differences);
    assert_eq!(found.injection, wanted.injection);
}

#[test]
fn machines_alike_are_drafted_once() {
    let bench = Bench::new();
    let (plan, files) = scene(&bench);
    let none = Files {
        unpacked: BTreeMap::new(),
        payloads: files.payloads.clone(),
    };
    bench.write("home/notes", "one");
    let precedents = Precedents::default();
    assert!(precedents.draft(&plan, &materials(&bench, &none)).is_err());
    let first = precedents.draft(&plan, &materials(&bench, &files));
    let wanted = draft_injection(&plan, &materials(&bench, &files)).unwrap();
    assert!(wanted.differences.len() > 10);
    assert_same(&first, &wanted);

    // Another machine, and a file that nobody looked at is another one.
    fs::write(bench.root().join("home/notes"), "another").unwrap();
    let other = Plan {
        at: Locator::machine("other"),
        ..plan.clone()
    };
    let second = precedents.draft(&other, &materials(&bench, &none));
    let mut injection = wanted.injection.clone();
    assert_ne!(injection.at, other.at);
    injection.at = other.at.clone();
    let second = second.unwrap();
    assert_eq!(second.differences, wanted.differences);
    assert_eq!(second.injection, injection);
    let content = second
        .draft
        .read(&dormouse_block::GuestPath::new("/home/notes").unwrap(), 100);
    assert_eq!(content.unwrap().as_deref(), Some(&b"another"[..]));

    // Another plan, or another time.
    let mut shorter = plan.clone();
    shorter.packages.pop();
    shorter.packages.truncate(1);
    assert!(
        precedents
            .draft(&shorter, &materials(&bench, &files))
            .unwrap()
            .differences
            .len()
            < wanted.differences.len()
    );
    let mut later = materials(&bench, &none);
    later.now = "2026-11-21T12:00:00Z".parse().unwrap();
    assert!(precedents.draft(&plan, &later).is_err());

    // A conffile that its user changed is kept, whatever was drafted before.
    fs::write(bench.root().join("etc/good.conf"), "mine").unwrap();
    assert!(precedents.draft(&plan, &materials(&bench, &none)).is_err());
    let changed = draft_injection(&plan, &materials(&bench, &files)).unwrap();
    assert_ne!(changed.injection, wanted.injection);
    assert_same(
        &precedents.draft(&plan, &materials(&bench, &files)),
        &changed,
    );
    assert_same(
        &precedents.draft(&plan, &materials(&bench, &none)),
        &changed,
    );
}
