//! Linux itself as the oracle: a User-mode Linux kernel, whose root is the host's own, read-only, so that lvm2, mdadm and
//! cryptsetup work on image files without root and whatever the host's kernel has. A missing tool fails the test.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests run oracles and write files"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dormouse_block::{HostFile, Result, Source, digest_of};
use dormouse_volume::{DiskInput, Keys, VolumeMap, volumes_with_keys};

/// What goes before every script. `load MODULE...` loads modules, `sum NAME FILE` says a digest, `fill FILE SEED` fills
/// a device with bytes that look random.
const PREAMBLE: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LVM_SYSTEM_DIR=/tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1
mount -t proc proc /proc; mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /run; mount -t tmpfs tmp /tmp
mkdir -p /tmp/lvm /tmp/modules/lib /run/lvm /run/lock /run/cryptsetup /run/mdadm /tmp/out
ln -s /usr/lib/uml/modules /tmp/modules/lib/modules
mount -t hostfs none /tmp/out -o @OUT@
mkdir /run/disks
for d in /sys/block/ubd*; do mknod /run/disks/${d##*/} b $(tr : ' ' < $d/dev); done
cat > /tmp/lvm/lvm.conf <<'EOF'
devices { dir = "/dev" scan = [ "/run/disks" ] obtain_device_list_from_udev = 0 use_devicesfile = 0 md_component_detection = 0
  write_cache_state = 0 multipath_component_detection = 0 types = [ "ubd", 16 ] }
activation { udev_sync = 0 udev_rules = 0 verify_udev_operations = 0 monitoring = 0 }
backup { backup = 0 archive = 0 }
global { locking_dir = "/run/lock/lvm" use_lvmpolld = 0 event_activation = 0 }
EOF
load() { for m in "$@"; do modprobe -d /tmp/modules "$m" || echo "no module $m"; done; }
sum() { echo "SUM $1 $(sha256sum < "$2" | cut -d' ' -f1)"; }
fill() { openssl enc -aes-128-ctr -pass "pass:$2" -nosalt -pbkdf2 -iter 1 -in /dev/zero 2>/dev/null | dd of="$1" bs=64k iflag=fullblock conv=notrunc status=none 2>/dev/null || :; }
trap 'status=$?; sync; echo FINISHED $status; poweroff -f 2>/dev/null' EXIT
set -e
"#;

/// Sums that the kernel gave, by name.
pub type Sums = BTreeMap<String, String>;

/// Disks for one kernel.
pub struct Kernel {
    pub dir: tempfile::TempDir,
    pub disks: Vec<PathBuf>,
}

impl Kernel {
    /// Blank disks of these sizes: `/dev/ubda`, `/dev/ubdb`, ...
    pub fn new(sizes: &[u64]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disks = sizes
            .iter()
            .enumerate()
            .map(|(number, size)| {
                let path = dir.path().join(format!("disk{number}"));
                std::fs::File::create(&path)
                    .unwrap()
                    .set_len(*size)
                    .unwrap();
                path
            })
            .collect();
        Self { dir, disks }
    }

    /// Runs `script` with the disks; what it summed up.
    pub fn run(&self, script: &str) -> Sums {
        let init = self.dir.path().join("init");
        let out = self.dir.path().to_str().unwrap();
        std::fs::write(&init, format!("{}{script}", PREAMBLE.replace("@OUT@", out))).unwrap();
        std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120", "linux.uml", "mem=256M", "quiet"]);
        command.args([
            "rootfstype=hostfs",
            "root=/dev/root",
            "rootflags=/",
            "ro",
            "con=null",
        ]);
        command.args(["con0=fd:0,fd:1", &format!("init={}", init.display())]);
        for (number, disk) in self.disks.iter().enumerate() {
            command.arg(format!("ubd{number}={}", disk.display()));
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("the oracle linux.uml is required: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("FINISHED 0"),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let sums: Sums = text
            .lines()
            .filter_map(|line| line.trim_end().strip_prefix("SUM "))
            .filter_map(|line| line.split_once(' '))
            .map(|(name, sum)| (name.to_owned(), sum.to_owned()))
            .collect();
        assert!(sums.values().all(|sum| sum.len() == 64), "{text}");
        sums
    }

    /// The volumes on those disks whose number `wanted` lets pass.
    pub fn volumes(&self, wanted: impl Fn(usize) -> bool) -> VolumeMap {
        self.volumes_with(wanted, &Keys::default())
    }

    pub fn volumes_with(&self, wanted: impl Fn(usize) -> bool, keys: &Keys) -> VolumeMap {
        let disks: Vec<DiskInput> = self
            .disks
            .iter()
            .enumerate()
            .filter(|(number, _)| wanted(*number))
            .map(|(number, path)| DiskInput::new(format!("disk{number}"), source(path)))
            .collect();
        volumes_with_keys(&disks, keys)
    }
}

pub fn source(path: &Path) -> Arc<dyn Source> {
    Arc::new(HostFile::open(path).unwrap())
}

/// The digests of all volumes of `map`, by name.
pub fn sums(map: &VolumeMap) -> Sums {
    map.volumes
        .iter()
        .map(|volume| {
            let sum =
                digest_of(&*volume.source).map_or_else(|error| error.to_string(), |sum| sum.hex());
            (volume.info.name.clone(), sum)
        })
        .collect()
}

/// Bytes with some of them changed.
pub struct Patched {
    below: Arc<dyn Source>,
    patches: Vec<(u64, Vec<u8>)>,
}

impl Patched {
    pub fn over(below: Arc<dyn Source>, patches: Vec<(u64, Vec<u8>)>) -> Arc<dyn Source> {
        Arc::new(Self { below, patches })
    }
}

impl Source for Patched {
    fn len(&self) -> u64 {
        self.below.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.below.read_exact_at(offset, buf)?;
        for (start, bytes) in &self.patches {
            for (byte, at) in bytes.iter().zip(*start..) {
                let place = at
                    .checked_sub(offset)
                    .and_then(|place| usize::try_from(place).ok());
                if let Some(slot) = place.and_then(|place| buf.get_mut(place)) {
                    *slot = *byte;
                }
            }
        }
        Ok(())
    }
}
