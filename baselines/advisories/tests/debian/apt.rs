//! The same archive through apt's eyes: what it believes, and what it would install.

use std::path::Path;
use std::process::{Command, Output};

use crate::archive::{Archive, Gnupg, SUITE};

const NOW: &str = "2026-01-02T00:00:00Z";

/// An apt that knows this archive and nothing else of the host.
struct Apt {
    home: tempfile::TempDir,
}

impl Apt {
    fn new(archive: &Archive, keys: &[u8]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |rest: &str| home.path().join(rest);
        for folder in ["state/lists/partial", "cache/archives/partial", "etc"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("keys.gpg"), keys).unwrap();
        std::fs::write(at("status"), "").unwrap();
        let folder = archive.folder.path().display();
        let keys = at("keys.gpg");
        let line = format!(
            "deb [signed-by={}] copy:{folder} {SUITE} main\n",
            keys.display()
        );
        std::fs::write(at("etc/sources.list"), line).unwrap();
        let settings = format!(
            "Dir \"{0}\";\nDir::State \"{0}/state\";\nDir::State::status \"{0}/status\";\nDir::Cache \"{0}/cache\";\n\
            Dir::Etc \"{0}/etc\";\nDir::Etc::parts \"/nonexistent\";\nDir::Etc::sourceparts \"/nonexistent\";\n\
            Dir::Etc::preferencesparts \"/nonexistent\";\nAPT::Architecture \"amd64\";\nAPT::Architectures \"amd64\";\n\
            APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\nDir::Bin::methods \"/usr/lib/apt/methods\";\n\
            Acquire::Check-Date \"false\";\nAcquire::Check-Valid-Until \"false\";\n",
            home.path().display()
        );
        std::fs::write(at("apt.conf"), settings).unwrap();
        Self { home }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .env("APT_CONFIG", self.home.path().join("apt.conf"))
            .env("LC_ALL", "C")
            .args(arguments)
            .output()
            .expect("this test needs apt")
    }

    fn believes(&self) -> bool {
        let output = self.run("apt-get", &["update", "-o", "APT::Update::Error-Mode=any"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success() && !errors.contains("not signed") && !errors.contains("GPG error")
    }

    /// Every version of a package that apt knows, the latest first.
    fn versions(&self, name: &str) -> Vec<String> {
        let output = self.run("apt-cache", &["madison", name]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(|line| line.split('|').nth(1).unwrap().trim().to_owned())
            .collect()
    }
}

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
        .iter()
        .map(|package| package.name.clone())
        .collect();
    names.dedup();
    assert!(names.len() >= 5);
    for name in names {
        let ours: Vec<_> = repository
            .candidates(&name)
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
