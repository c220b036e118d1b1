//! A small archive made for a test, of real packages, signed by real GnuPG keys.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dormouse_advisories::{Keyring, Repository, Selection};
use dormouse_block::Digest;
use jiff::Timestamp;
use tempfile::TempDir;

pub(crate) fn fixtures() -> PathBuf {
    std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    )
}

/// A home of GnuPG, with whatever keys a test makes.
pub(crate) struct Gnupg {
    home: TempDir,
}

impl Gnupg {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs gpg as of a day; the rest of its settings are those of no one.
    pub(crate) fn run(&self, day: &str, arguments: &[&str]) -> Output {
        Command::new("gpg")
            .arg("--homedir")
            .arg(self.home.path())
            .args([
                "--batch",
                "--yes",
                "--quiet",
                "--no-auto-check-trustdb",
                "--trust-model",
                "always",
            ])
            .args(["--pinentry-mode", "loopback", "--passphrase", ""])
            .arg("--faked-system-time")
            .arg(format!("{}T120000!", day.replace('-', "")))
            .args(arguments)
            .output()
            .expect("this test needs gpg")
    }

    pub(crate) fn ok(&self, day: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(day, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {arguments:?}: {errors}");
        output.stdout
    }

    /// A new key that can sign, and its fingerprint.
    pub(crate) fn key(&self, name: &str, algorithm: &str, day: &str, expires: &str) -> String {
        self.ok(
            day,
            &["--quick-generate-key", name, algorithm, "sign", expires],
        );
        let listing =
            String::from_utf8(self.ok(day, &["--with-colons", "--list-keys", name])).unwrap();
        let fingerprint = listing
            .lines()
            .find_map(|line| line.strip_prefix("fpr:"))
            .unwrap();
        fingerprint.trim_matches(':').to_owned()
    }

    pub(crate) fn export(&self, name: &str) -> Vec<u8> {
        self.ok("2026-01-01", &["--export", name])
    }

    pub(crate) fn keyring(&self, name: &str) -> Keyring {
        Keyring::parse(&self.export(name)).unwrap()
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        // The agent lives as long as its home otherwise.
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "all"])
            .output();
    }
}

/// What gpgv says: the oracle for every signature.
pub(crate) fn gpgv_accepts(keyring: &[u8], files: &[&Path], folder: &Path) -> bool {
    let keys = folder.join("oracle.gpg");
    std::fs::write(&keys, keyring).unwrap();
    let output = Command::new("gpgv")
        .arg("--keyring")
        .arg(&keys)
        .args(files)
        .output()
        .expect("this test needs gpgv");
    output.status.success()
}

pub(crate) fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// An apt that knows this archive and nothing else of the host.
pub(crate) struct Apt {
    home: tempfile::TempDir,
}

impl Apt {
    pub(crate) fn new(archive: &Archive, keys: &[u8]) -> Self {
        let folder = archive.folder.path().display();
        let line = format!("copy:{folder} {SUITE} main");
        Self::with(keys, &[line])
    }

    /// One that knows these sources: what follows `deb` in sources.list(5).
    pub(crate) fn with(keys: &[u8], sources: &[String]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |rest: &str| home.path().join(rest);
        for folder in ["state/lists/partial", "cache/archives/partial", "etc"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("keys.gpg"), keys).unwrap();
        let keys = at("keys.gpg");
        let line: String = sources
            .iter()
            .map(|source| format!("deb [signed-by={}] {source}\n", keys.display()))
            .collect();
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
        let apt = Self { home };
        apt.install(b"");
        apt
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .env("APT_CONFIG", self.home.path().join("apt.conf"))
            .env("LC_ALL", "C")
            .args(arguments)
            .output()
            .expect("this test needs apt")
    }

    pub(crate) fn believes(&self) -> bool {
        let output = self.run("apt-get", &["update", "-o", "APT::Update::Error-Mode=any"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success() && !errors.contains("not signed") && !errors.contains("GPG error")
    }

    /// Puts a database of installed packages before it.
    pub(crate) fn install(&self, status: &[u8]) {
        std::fs::write(self.home.path().join("status"), status).unwrap();
    }

    #[allow(dead_code, reason = "for the tests of policy")]
    /// Puts pins before it, as apt_preferences(5) writes them.
    pub(crate) fn prefer(&self, preferences: &str) {
        std::fs::write(self.home.path().join("etc/preferences"), preferences).unwrap();
    }

    #[allow(dead_code, reason = "for the tests of policy")]
    /// The version that it would install or keep.
    pub(crate) fn candidate(&self, name: &str) -> String {
        let output = self.run("apt-cache", &["policy", name]);
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("  Candidate: "));
        line.unwrap_or_else(|| panic!("apt-cache policy {name}: {text}"))
            .to_owned()
    }

    /// Every version of a package that apt knows, the latest first.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        let output = self.run("apt-cache", &["madison", name]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(|line| line.split('|').nth(1).unwrap().trim().to_owned())
            .collect()
    }
}

/// A mirror's folder.
pub(crate) struct Archive {
    pub(crate) folder: TempDir,
}

pub(crate) const SUITE: &str = "test-security";
pub(crate) const COMPRESSIONS: [&str; 4] = ["", ".gz", ".xz", ".zst"];

fn compress(bytes: &[u8], suffix: &str) -> Vec<u8> {
    use std::io::Write as _;
    match suffix {
        "" => bytes.to_vec(),
        ".xz" => liblzma::encode_all(bytes, 6).unwrap(),
        ".zst" => zstd::encode_all(bytes, 3).unwrap(),
        ".gz" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        other => panic!("no compression {other}"),
    }
}

impl Archive {
    /// Real packages in `pool/`, and their index made by apt-ftparchive.
    pub(crate) fn new() -> (Self, Vec<u8>) {
        let archive = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let pool = archive.path("pool/main");
        std::fs::create_dir_all(&pool).unwrap();
        let mut found = 0;
        for release in ["bookworm", "bullseye"] {
            let from = fixtures().join("packages/deb").join(release);
            for entry in walk(&from) {
                if entry.extension().is_some_and(|suffix| suffix == "deb") {
                    std::fs::copy(&entry, pool.join(entry.file_name().unwrap())).unwrap();
                    found += 1;
                }
            }
        }
        assert!(found >= 10, "the fixtures hold packages");
        let output = Command::new("apt-ftparchive")
            .args(["packages", "pool"])
            .current_dir(archive.folder.path())
            .output()
            .expect("this test needs apt-ftparchive (apt-utils)");
        assert!(output.status.success(), "apt-ftparchive");
        (archive, output.stdout)
    }

    pub(crate) fn path(&self, rest: &str) -> PathBuf {
        self.folder.path().join(rest)
    }

    pub(crate) fn suite_path(&self, rest: &str) -> PathBuf {
        self.path(&format!("dists/{SUITE}/{rest}"))
    }

    /// Writes an index in the given compressions and the Release file that lists them all.
    pub(crate) fn publish(&self, packages: &[u8], present: &[&str], more_fields: &str) {
        let folder = self.suite_path("main/binary-amd64");
        std::fs::create_dir_all(&folder).unwrap();
        let mut release = format!(
            "Origin: Test\nLabel: Test-Security\nSuite: oldstable-security\nCodename: {SUITE}\n\
            Date: Thu, 01 Jan 2026 12:00:00 UTC\nArchitectures: amd64\nComponents: main\n{more_fields}SHA256:\n"
        );
        for suffix in COMPRESSIONS {
            let bytes = compress(packages, suffix);
            let (digest, size) = (Digest::of(&bytes).hex(), bytes.len());
            writeln!(
                release,
                " {digest} {size} main/binary-amd64/Packages{suffix}"
            )
            .unwrap();
            let path = folder.join(format!("Packages{suffix}"));
            if present.contains(&suffix) {
                std::fs::write(path, bytes).unwrap();
            }
        }
        std::fs::write(self.suite_path("Release"), release).unwrap();
    }

    /// Signs the Release file as `InRelease` with these keys.
    pub(crate) fn sign(&self, gnupg: &Gnupg, day: &str, keys: &[&str], more: &[&str]) {
        let (from, to) = (self.suite_path("Release"), self.suite_path("InRelease"));
        let mut arguments = vec!["--clearsign", "--output", to.to_str().unwrap()];
        for key in keys {
            arguments.extend(["--local-user", key]);
        }
        arguments.extend(more);
        arguments.push(from.to_str().unwrap());
        gnupg.ok(day, &arguments);
    }

    pub(crate) fn open(
        &self,
        keyring: &Keyring,
        as_of: &str,
    ) -> dormouse_block::Result<Repository> {
        Repository::open(
            self.folder.path(),
            keyring,
            &Selection::default(),
            instant(as_of),
        )
    }
}

pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}
