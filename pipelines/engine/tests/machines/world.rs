//! Disks with a small Debian on them, and what describes machines made of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dormouse_block::Meter;
use dormouse_disk::LibraryGate;
use dormouse_engine::{Found, Keys, Library, MachineOptions, OpenMachine, UnitCache, discover};

pub(crate) fn run(program: &str, args: &[&str]) {
    let out = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("the oracle {program} is required: {error}"));
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {err}");
}

/// A folder that is a library.
pub(crate) struct World {
    _dir: tempfile::TempDir,
    pub(crate) library: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().canonicalize().unwrap().join("library");
        fs::create_dir(&library).unwrap();
        Self { _dir: dir, library }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.library.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// An ext4 disk of 8 MiB with these files, in this format.
    pub(crate) fn disk(&self, name: &str, format: &str, files: &[(&str, &str)]) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let raw = root.path().with_extension("disk");
        let (from, to) = (root.path().to_str().unwrap(), raw.to_str().unwrap());
        run("mke2fs", &["-q", "-F", "-t", "ext4", "-d", from, to, "8M"]);
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut args = vec!["convert", "-f", "raw", "-O"];
        match format {
            "stream" => args.extend(["vmdk", "-o", "subformat=streamOptimized"]),
            format => args.push(format),
        }
        args.extend([to, path.to_str().unwrap()]);
        run("qemu-img", &args);
        fs::remove_file(raw).unwrap();
    }

    /// A disk with a whole system on it.
    pub(crate) fn system(&self, name: &str, format: &str) {
        self.disk(name, format, &[OS, ("var/lib/dpkg/status", STATUS)]);
    }

    /// A layer over `base`, both of this format.
    pub(crate) fn layer(&self, name: &str, base: &str, format: &str) {
        let path = self.path(name);
        run(
            "qemu-img",
            &[
                "create",
                "-q",
                "-f",
                format,
                "-b",
                base,
                "-F",
                format,
                path.to_str().unwrap(),
            ],
        );
    }

    pub(crate) fn snapshot(&self, name: &str, snapshot: &str) {
        let path = self.path(name);
        run(
            "qemu-img",
            &["snapshot", "-c", snapshot, path.to_str().unwrap()],
        );
    }

    pub(crate) fn options(&self) -> MachineOptions {
        MachineOptions {
            format: None,
            gate: Arc::new(LibraryGate::new([&self.library]).unwrap()),
            meter: Meter::unlimited(),
            keys: Keys::default(),
            units: UnitCache::default(),
        }
    }

    pub(crate) fn discover(&self) -> Library {
        discover(&self.library).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let machines = self.discover().machines.into_iter();
        machines.map(|found| found.name).collect()
    }

    /// The one machine of the library.
    pub(crate) fn only(&self) -> OpenMachine {
        let mut machines = self.discover().machines;
        assert_eq!(machines.len(), 1, "{machines:?}");
        self.open(&machines.remove(0))
    }

    pub(crate) fn open(&self, found: &Found) -> OpenMachine {
        OpenMachine::open_found(found, &self.options()).unwrap()
    }

    /// The machine at `name`, opened by itself.
    pub(crate) fn alone(&self, name: &str) -> dormouse_block::Result<OpenMachine> {
        let path = self.path(name);
        let gate = LibraryGate::new([path.parent().unwrap()]).unwrap();
        let options = MachineOptions {
            gate: Arc::new(gate),
            ..self.options()
        };
        OpenMachine::open("alone", &path, &options)
    }
}

pub(crate) const OS: (&str, &str) = ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
pub(crate) const STATUS: &str = "Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2\nArchitecture: amd64\nMaintainer: x\nDescription: x\n\n";

/// A libvirt domain with these disks: targets, files, types.
pub(crate) fn domain(disks: &[(&str, &str, &str)]) -> String {
    let disks: String = disks
        .iter()
        .map(|(target, file, kind)| {
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{file}'/><target dev='{target}'/></disk>"
            )
        })
        .collect();
    format!(
        "<domain type='kvm'><name>web</name><memory>1024</memory><devices>{disks}</devices></domain>"
    )
}

/// What `virsh save` writes before the machine's memory.
pub(crate) fn saved(domain: &str) -> Vec<u8> {
    let mut bytes = b"LibvirtQemudSave".to_vec();
    bytes.extend(2_u32.to_le_bytes());
    bytes.extend(u32::try_from(domain.len() + 1).unwrap().to_le_bytes());
    bytes.resize(92, 0);
    bytes.extend(domain.as_bytes());
    bytes.extend([0; 4096]);
    bytes
}

/// What QEMU saves of a machine: a block of 256 KiB of memory that holds these texts, each at the beginning of a page but for
/// its first number of bytes.
pub(crate) fn stream(texts: &[(usize, &str)]) -> Vec<u8> {
    let mut memory = vec![0; 256 << 10];
    for (number, (skip, text)) in texts.iter().enumerate() {
        let at = (number + 1) * 8192 + skip;
        memory[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let len = u64::try_from(memory.len()).unwrap();
    let mut bytes = b"QEVM\0\0\0\x03\x01".to_vec();
    bytes.extend(2_u32.to_be_bytes());
    bytes.extend(b"\x03ram");
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(4_u32.to_be_bytes());
    bytes.extend((len | 4).to_be_bytes());
    bytes.extend(b"\x06pc.ram");
    bytes.extend(len.to_be_bytes());
    bytes.extend(0x10_u64.to_be_bytes());
    bytes.push(3);
    bytes.extend(2_u32.to_be_bytes());
    for (page, place) in memory.chunks(4096).zip((0_u64..).step_by(4096)) {
        let again = if place == 0 { 0 } else { 0x20 };
        bytes.extend((place | 8 | again).to_be_bytes());
        if place == 0 {
            bytes.extend(b"\x06pc.ram");
        }
        bytes.extend(page);
    }
    bytes.extend(0x10_u64.to_be_bytes());
    bytes.push(0);
    bytes
}

/// What was read of a point, in short: power, packages, and why what is missing may hide packages.
pub(crate) fn seen(machine: &OpenMachine, point: &str) -> (String, usize, Vec<String>) {
    let inspection = machine
        .open_point(point)
        .unwrap()
        .inspect(&std::collections::BTreeSet::new())
        .unwrap();
    let packages = inspection
        .systems
        .iter()
        .map(|system| system.inventory.coverage.present)
        .sum();
    let gaps = inspection
        .gaps
        .iter()
        .filter(|gap| gap.may_hide_packages)
        .map(|gap| gap.why.clone())
        .collect();
    (inspection.power.as_str().to_owned(), packages, gaps)
}

pub(crate) fn whole(power: &str) -> (String, usize, Vec<String>) {
    (power.to_owned(), 1, Vec::new())
}

pub(crate) fn ids(machine: &OpenMachine) -> Vec<String> {
    machine.points().into_iter().map(|point| point.id).collect()
}

pub(crate) fn fixtures() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    std::env::var_os("DORMOUSE_FIXTURES").map_or(own, PathBuf::from)
}

/// Opens a state whose last user may just have gone: a program that another test starts holds its lock for the moment
/// between its fork and its own beginning.
pub(crate) fn open_state(folder: &Path) -> dormouse_engine::State {
    for _ in 0..100 {
        match dormouse_engine::State::open(folder) {
            Err(error) if error.to_string().contains("another dormouse") => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            other => return other.unwrap(),
        }
    }
    panic!("{} stays locked", folder.display());
}
