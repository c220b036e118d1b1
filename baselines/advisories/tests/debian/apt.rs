//! The same archive through apt's eyes: what it believes, and what it would install.

use std::path::Path;

use crate::archive::{Apt, Archive, Gnupg};

const NOW: &str = "2026-01-02T00:00:00Z";

#[test]
fn apt_believes_what_we_believe_and_offers_the_same_versions() {
    let gnupg = Gnupg::new();
    let (archive, packages) = Archive::new();
    archive.publish(&packages, &[".xz"], "");
    gnupg.key("one", "ed25519", "2026-01-01", "20y");
    gnupg.key("stranger", "ed25519", "2026-01-01", "20y");
    archive.sign(&gnupg, "2026-01-01", &["one"], &[]);
    let repository = archive.open(&gnupg.keyring("one"), NOW).unwrap();
    let apt = Apt::new(&archive, &gnupg.export("one"));
    let first = apt.run("apt-get", &["update"]);
    assert!(apt.believes(), "{}", String::from_utf8_lossy(&first.stderr));
    let mut names: Vec<_> = repository
        .packages()
        .unwrap()
        .iter()
        .map(|package| package.name.clone())
        .collect();
    names.dedup();
    assert!(names.len() >= 5);
    for name in names {
        let ours: Vec<_> = repository
            .candidates(&name)
            .unwrap()
            .iter()
            .map(|package| package.version.to_string())
            .collect();
        assert_eq!(ours, apt.versions(&name), "{name}");
    }

    let strange = Apt::new(&archive, &gnupg.export("stranger"));
    assert!(!strange.believes());
    assert!(archive.open(&gnupg.keyring("stranger"), NOW).is_err());
    tamper(&archive.suite_path("InRelease"));
    assert!(!Apt::new(&archive, &gnupg.export("one")).believes());
    assert!(archive.open(&gnupg.keyring("one"), NOW).is_err());
}

fn tamper(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(
        path,
        text.replacen("Components: main", "Components: mail", 1),
    )
    .unwrap();
}
