//! A guest's status and a signed archive beside it, resolved by us and by apt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use dormouse_advisories::{Keyring, Repository, Selection};
use dormouse_block::Digest;
use dormouse_packages::dpkg::Database;
use dormouse_policy::{Phased, Preferences};
use dormouse_remedy::{Only, Question, Resolution, resolve};
use tempfile::TempDir;

/// One package: its name, its version, and more fields.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) fields: String,
    /// The words of its `Status`, for installed ones.
    pub(crate) status: &'static str,
}

/// `"name version | Field: value | Field: value"`; a part without a field's name goes on with an alternative.
pub(crate) fn package(line: &str) -> Package {
    let mut parts = line.split(" | ");
    let (name, version) = parts.next().unwrap().trim().split_once(' ').unwrap();
    let mut fields = String::new();
    let mut status = "install ok installed";
    for field in parts {
        match field.trim() {
            "held" => status = "hold ok installed",
            field if field.contains(": ") => writeln!(fields, "{field}").unwrap(),
            alternative => {
                fields.pop();
                writeln!(fields, " | {alternative}").unwrap();
            }
        }
    }
    if !fields.contains("Architecture:") {
        fields.push_str("Architecture: amd64\n");
    }
    Package {
        name: name.into(),
        version: version.into(),
        fields,
        status,
    }
}

pub(crate) fn packages(lines: &str) -> Vec<Package> {
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(package)
        .collect()
}

fn paragraph(package: &Package, more: &str) -> String {
    format!(
        "Package: {}\nVersion: {}\n{}Maintainer: A <a@example.org>\n{more}Description: x\n\n",
        package.name, package.version, package.fields
    )
}

/// The status file of these packages.
pub(crate) fn status(installed: &[Package]) -> String {
    installed
        .iter()
        .map(|package| paragraph(package, &format!("Status: {}\n", package.status)))
        .collect()
}

pub(crate) struct Scene {
    folder: TempDir,
    pub(crate) status: String,
    keyring: Keyring,
    pub(crate) architectures: Vec<&'static str>,
}

fn gpg(home: &std::path::Path, arguments: &[&str]) -> Output {
    let output = Command::new("gpg")
        .arg("--homedir")
        .arg(home)
        .args([
            "--batch",
            "--yes",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ])
        .args(["--faked-system-time", "20260101T120000!"])
        .args(arguments)
        .output()
        .expect("this test needs gpg");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

impl Scene {
    pub(crate) fn new(installed: &[Package], offered: &[Package]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let suite = folder.path().join("mirror/dists/test");
        let index = suite.join("main/binary-amd64");
        std::fs::create_dir_all(&index).unwrap();
        let text: String = offered
            .iter()
            .map(|package| {
                let more = format!(
                    "Filename: pool/{0}_{1}.deb\nSize: 1000\nSHA256: {2}\n",
                    package.name,
                    package.version.replace(':', "%3a"),
                    Digest::of(format!(
                        "{} {}{}",
                        package.name, package.version, package.fields
                    ))
                    .hex()
                );
                paragraph(package, &more)
            })
            .collect();
        std::fs::write(index.join("Packages"), &text).unwrap();
        let pool = folder.path().join("mirror/pool");
        std::fs::create_dir(&pool).unwrap();
        for package in offered {
            let version = package.version.replace(':', "%3a");
            let file = std::fs::File::create(pool.join(format!("{}_{version}.deb", package.name)));
            file.unwrap().set_len(1000).unwrap();
        }
        let release = format!(
            "Origin: Test\nSuite: test\nCodename: test\nDate: Thu, 01 Jan 2026 12:00:00 UTC\nArchitectures: amd64 i386\n\
             Components: main\nSHA256:\n {} {} main/binary-amd64/Packages\n",
            Digest::of(&text).hex(),
            text.len()
        );
        std::fs::write(suite.join("Release"), release).unwrap();
        let home = folder.path().join("gnupg");
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, None, None).unwrap();
        gpg(
            &home,
            &["--quick-generate-key", "test", "ed25519", "sign", "0"],
        );
        let output = suite.join("InRelease").display().to_string();
        let input = suite.join("Release").display().to_string();
        gpg(
            &home,
            &[
                "--local-user",
                "test",
                "--output",
                &output,
                "--clearsign",
                &input,
            ],
        );
        let keyring = Keyring::parse(&gpg(&home, &["--export", "test"]).stdout).unwrap();
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(&home)
            .args(["--kill", "all"])
            .output();
        Self {
            folder,
            status: status(installed),
            keyring,
            architectures: vec!["amd64"],
        }
    }

    pub(crate) fn resolve(&self, only: &Only) -> Resolution {
        self.resolve_with(only, &Preferences::default(), Phased::Wait)
    }

    /// Takes the package file of one version away.
    pub(crate) fn lose(&self, name: &str, version: &str) {
        let file = format!("mirror/pool/{name}_{version}.deb");
        std::fs::remove_file(self.folder.path().join(file)).unwrap();
    }

    pub(crate) fn resolve_with(
        &self,
        only: &Only,
        preferences: &Preferences,
        phased: Phased,
    ) -> Resolution {
        let repository = Repository::open(
            &self.folder.path().join("mirror"),
            &self.keyring,
            &Selection::default(),
            "2026-01-02T00:00:00Z".parse().unwrap(),
        )
        .unwrap();
        let mut database = Database::parse(self.status.as_bytes());
        database.architectures = self
            .architectures
            .iter()
            .map(|&name| name.to_owned())
            .collect();
        resolve(&Question {
            database: &database,
            repositories: &[repository],
            suites: &BTreeSet::new(),
            only,
            spared: &["spared".to_owned()].into(),
            preferences,
            phased,
            fixes: &|cve, source, there, offered| {
                cve == "CVE-2026-0001"
                    && source == "mended"
                    && there.as_str() < "2"
                    && offered.as_str() >= "2"
            },
        })
        .unwrap()
    }

    /// Runs apt over a private state with `status`.
    pub(crate) fn apt(&self, status: &str, arguments: &[&str]) -> Output {
        let root = self.folder.path();
        for directory in [
            "apt/state/lists/partial",
            "apt/cache/archives/partial",
            "apt/etc",
        ] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        let path = |name: &str| -> PathBuf { root.join(name) };
        std::fs::write(path("apt/status"), status).unwrap();
        std::fs::write(
            path("apt/etc/sources.list"),
            format!(
                "deb [trusted=yes] file:{} test main\n",
                path("mirror").display()
            ),
        )
        .unwrap();
        let architectures = self.architectures.join(",");
        let option = |name: &str, value: String| ["-o".to_owned(), format!("{name}={value}")];
        let options = [
            option("Dir::State", path("apt/state").display().to_string()),
            option(
                "Dir::State::status",
                path("apt/status").display().to_string(),
            ),
            option("Dir::Cache", path("apt/cache").display().to_string()),
            option("Dir::Etc", path("apt/etc").display().to_string()),
            option("APT::Architecture", "amd64".into()),
            option("APT::Architectures", architectures),
            option("APT::Install-Recommends", "false".into()),
            option("APT::Sandbox::User", String::new()),
            option("Acquire::Languages", "none".into()),
        ]
        .concat();
        let run = |arguments: &[&str]| {
            Command::new("apt-get")
                .env("LC_ALL", "C")
                .env("APT_CONFIG", "/dev/null")
                .args(&options)
                .args(arguments)
                .output()
                .expect("this test needs apt-get")
        };
        if !path("apt/updated").exists() {
            let output = run(&["update"]);
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            std::fs::write(path("apt/updated"), "").unwrap();
        }
        run(arguments)
    }

    /// What apt would take, by name (with the architecture where it is a foreign one).
    pub(crate) fn apt_takes(&self, arguments: &[&str]) -> BTreeMap<String, String> {
        let output = self.apt(&self.status, arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text.lines()
            .filter_map(|line| line.strip_prefix("Inst "))
            .map(|line| {
                let name = line.split(' ').next().unwrap().to_owned();
                let version = line
                    .split('(')
                    .nth(1)
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .to_owned();
                (name, version)
            })
            .collect()
    }
}

/// What we take, in the same form.
pub(crate) fn taken(resolution: &Resolution) -> BTreeMap<String, String> {
    resolution
        .packages
        .iter()
        .map(|package| {
            let name = match package.architecture.as_str() {
                "amd64" | "all" => package.name.clone(),
                other => format!("{}:{other}", package.name),
            };
            (name, package.version.clone())
        })
        .collect()
}

/// The place of each package in the order of unpacking.
pub(crate) fn place(resolution: &Resolution, name: &str) -> usize {
    resolution
        .packages
        .iter()
        .position(|package| package.name == name)
        .unwrap_or_else(|| panic!("{name} is not taken: {:?}", taken(resolution)))
}
