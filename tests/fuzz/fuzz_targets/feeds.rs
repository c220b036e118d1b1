//! Feeds of advisories of every kind, told apart by what is in them, and what they say of a package.
#![no_main]

use dormouse_advisories::{Advisories, Target};
use dormouse_packages::{Family, OsRelease, Package, Purl};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(advisories) = Advisories::parse("azurelinux-3.0-oval.xml", data) else {
        return;
    };
    let target = Target::of_system(&OsRelease {
        id: "debian".to_owned(),
        version_id: Some("12".to_owned()),
        ..OsRelease::default()
    });
    for (statement, _) in advisories.statements() {
        let purl = Purl {
            family: Family::Dpkg,
            namespace: "",
            name: statement.package,
            version: "1",
            qualifiers: &[],
        };
        let package = Package::new(statement.family, statement.package, "1", "", &purl);
        let _ = advisories.judge(&target, &package);
    }
});
