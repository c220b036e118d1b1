//! A small root folder with dpkg's database, packages built for it, and both ways to unpack them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dormouse_block::{Digest, Error};
use dormouse_filesystem::{Guest, Time};
use dormouse_overlay::{Draft, PayloadReader};
use dormouse_remedy::deb::{self, Unpacked};
use dormouse_remedy::dpkg::{Options, Session, Settled, Unpacking};

use crate::host::{HostTree, assert_same, realise};

/// Runs a program that the tests need; a missing one fails the test.
pub(crate) fn run(command: &mut Command) -> String {
    let what = format!("{command:?}");
    let output = command
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .output()
        .unwrap_or_else(|error| panic!("cannot run {what}, which this test needs: {error}"));
    assert!(
        output.status.success(),
        "{what} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a package is built of.
#[derive(Default)]
pub(crate) struct Recipe<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    /// More control fields, each line ended.
    pub(crate) fields: &'a str,
    /// Path and bytes; a path that ends in `/` is a directory, bytes that begin with `-> ` a link, with `= ` a hard link.
    pub(crate) files: &'a [(&'a str, &'a str)],
    /// Control members beside `control`.
    pub(crate) control: &'a [(&'a str, &'a str)],
}

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
}

impl Bench {
    /// A folder with an empty root.
    pub(crate) fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let root = bench.root();
        for directory in [
            "etc",
            "usr/bin",
            "usr/share/doc",
            "var/log",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
        ] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nmail:x:8:8::/:\n",
        )
        .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nmail:x:8:\n").unwrap();
        for file in ["status", "available"] {
            fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
        }
        fs::write(root.join("var/lib/dpkg/info/format"), "1\n").unwrap();
        bench
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let at = self.root().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    }

    /// Builds a package with dpkg-deb.
    pub(crate) fn build(&self, recipe: &Recipe<'_>) -> PathBuf {
        let work = self.folder.path().join("build");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(work.join("DEBIAN")).unwrap();
        let architecture = if recipe.fields.contains("Architecture:") {
            ""
        } else {
            "Architecture: amd64\n"
        };
        let control = format!(
            "Package: {}\nVersion: {}\n{architecture}Maintainer: A <a@example.org>\n{}Description: a test\n of unpacking\n",
            recipe.name, recipe.version, recipe.fields
        );
        fs::write(work.join("DEBIAN/control"), control).unwrap();
        for (name, text) in recipe.control {
            let at = work.join("DEBIAN").join(name);
            fs::write(&at, text).unwrap();
            if matches!(*name, "preinst" | "postinst" | "prerm" | "postrm") {
                fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        for (path, text) in recipe.files {
            let at = work.join(path);
            if path.ends_with('/') {
                fs::create_dir_all(&at).unwrap();
                continue;
            }
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            if let Some(target) = text.strip_prefix("-> ") {
                std::os::unix::fs::symlink(target, &at).unwrap();
            } else if let Some(other) = text.strip_prefix("= ") {
                fs::hard_link(work.join(other), &at).unwrap();
            } else {
                fs::write(&at, text).unwrap();
            }
        }
        let architecture = recipe
            .fields
            .lines()
            .find_map(|line| line.strip_prefix("Architecture: "))
            .unwrap_or("amd64");
        let out = self.folder.path().join(format!(
            "{}_{}_{architecture}.deb",
            recipe.name, recipe.version
        ));
        run(Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "-z0", "--build"])
            .arg(&work)
            .arg(&out)
            .env("SOURCE_DATE_EPOCH", "1700000000"));
        out
    }

    /// Installs packages for real, as what the guest begins with.
    pub(crate) fn install(&self, packages: &[&Path]) {
        let root = self.root();
        run(dpkg(&root).arg("--install").args(packages));
    }

    /// Unpacks `packages` with dpkg on one copy and with a session on another, and compares the copies.
    pub(crate) fn compare(&self, packages: &[&Path]) -> Vec<Unpacking> {
        let (theirs, ours) = (self.copy("theirs"), self.copy("ours"));
        run(dpkg(&theirs)
            .args(["--no-triggers", "--auto-deconfigure", "--unpack"])
            .args(packages));
        let outcome = unpack(&self.root(), &ours, packages);
        assert_same(&theirs, &ours);
        outcome
    }

    /// Unpacks and configures `packages` with dpkg on one copy and with a session on another, and compares the copies.
    pub(crate) fn compare_configured(&self, packages: &[&Path]) -> Settled {
        let (theirs, ours) = (self.copy("theirs"), self.copy("ours"));
        run(dpkg(&theirs)
            .args([
                "--auto-deconfigure",
                "--force-confdef",
                "--force-confold",
                "--install",
            ])
            .args(packages));
        let mut settled = None;
        in_session(&self.root(), &ours, packages, |session, read| {
            for unpacked in read {
                let outcome = session.unpack(unpacked).unwrap();
                assert!(matches!(outcome, Unpacking::Done { .. }), "{outcome:?}");
            }
            settled = Some(session.configure().unwrap());
        });
        assert_same(&theirs, &ours);
        settled.unwrap()
    }

    /// As [`Bench::compare`], with lines for the guest's dpkg.cfg; the host's own dpkg gets them as options.
    pub(crate) fn compare_with(&self, packages: &[&Path], configuration: &str) {
        self.write("etc/dpkg/dpkg.cfg.d/filters", configuration);
        let (theirs, ours) = (self.copy("theirs"), self.copy("ours"));
        let options = configuration.lines().map(|line| format!("--{line}"));
        run(dpkg(&theirs)
            .args(options)
            .args(["--no-triggers", "--unpack"])
            .args(packages));
        unpack(&self.root(), &ours, packages);
        assert_same(&theirs, &ours);
    }

    /// Installs packages whose dependencies are missing.
    pub(crate) fn force_install(&self, packages: &[&Path]) {
        run(dpkg(&self.root())
            .args(["--force-depends", "--install"])
            .args(packages));
    }

    /// Installs a package whose dependencies are missing and whose configuration needs no more than dpkg.
    pub(crate) fn force_unpack_without_scripts(&self, package: &Path) {
        run(dpkg(&self.root())
            .args(["--force-depends", "--no-triggers", "--install"])
            .arg(package));
    }

    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        let _ = fs::remove_dir_all(&to);
        run(Command::new("cp").arg("-a").arg(self.root()).arg(&to));
        to
    }
}

pub(crate) fn dpkg(root: &Path) -> Command {
    let mut command = Command::new("dpkg");
    command
        .arg(format!("--root={}", root.display()))
        .args([
            "--force-not-root",
            "--force-bad-path",
            "--force-unsafe-io",
            "--force-architecture",
            "--force-script-chrootless",
        ])
        .arg(format!("--log={}/var/log/dpkg.log", root.display()));
    command
}

/// A package file read, with its contents at hand.
pub(crate) fn read(path: &Path) -> (Unpacked, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let mut contents: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let unpacked = deb::unpack(
        bytes.as_slice(),
        None,
        &deb::Limits::default(),
        &mut |head, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            contents.insert(head.offset, bytes);
            Ok(())
        },
    )
    .unwrap();
    let mut data = Vec::new();
    for (offset, bytes) in contents {
        data.resize(usize::try_from(offset).unwrap(), 0);
        data.extend(bytes);
    }
    (unpacked, data)
}

/// Unpacks `packages` into a draft over `base` and makes it real in `into`.
pub(crate) fn unpack(base: &Path, into: &Path, packages: &[&Path]) -> Vec<Unpacking> {
    unpack_timed(base, into, packages).0
}

/// As [`unpack`], with the time that the session took.
pub(crate) fn unpack_timed(
    base: &Path,
    into: &Path,
    packages: &[&Path],
) -> (Vec<Unpacking>, std::time::Duration) {
    let mut outcomes = Vec::new();
    let elapsed = in_session(base, into, packages, |session, read| {
        outcomes = read
            .iter()
            .map(|unpacked| session.unpack(unpacked).unwrap())
            .collect();
    });
    (outcomes, elapsed)
}

/// Does `work` in a session over `base`, makes the draft real in `into`, and gives the time that the session took.
pub(crate) fn in_session(
    base: &Path,
    into: &Path,
    packages: &[&Path],
    work: impl FnOnce(&mut Session<'_>, &[Unpacked]),
) -> std::time::Duration {
    let (read, data): (Vec<Unpacked>, Vec<Vec<u8>>) =
        packages.iter().map(|path| read(path)).unzip();
    let data: BTreeMap<Digest, Vec<u8>> = read
        .iter()
        .map(|unpacked| unpacked.payload)
        .zip(data)
        .collect();
    let payloads: PayloadReader = Arc::new(move |payload, offset, size| {
        let data = data
            .get(&payload)
            .ok_or_else(|| Error::corrupt("no such payload"))?;
        let from = usize::try_from(offset).unwrap();
        let to = from + usize::try_from(size).unwrap();
        Ok(Box::new(std::io::Cursor::new(data[from..to].to_vec())))
    });
    let mut draft = Draft::new(Arc::new(Guest::of(HostTree::read(base))), payloads);
    let options = Options {
        now: Time {
            seconds: 1_800_000_000,
            nanoseconds: 0,
        },
        limits: dormouse_scripts::Limits::default(),
    };
    let start = std::time::Instant::now();
    let mut session = Session::open(&mut draft, options).unwrap();
    work(&mut session, &read);
    session.finish().unwrap();
    let elapsed = start.elapsed();
    realise(&draft, into);
    elapsed
}
