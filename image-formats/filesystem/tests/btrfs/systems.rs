//! Operating systems in subvolumes: which one boots, which are its snapshots, and what is mounted below.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dormouse_block::GuestPath;
use dormouse_filesystem::{MemoryTree, OpenVolume, Systems, Tree, assemble};

use crate::images::{OPTION_SETS, make};
use crate::oracle::{Mounted, must, open};

fn volume(name: &str, tree: Arc<dyn Tree>) -> OpenVolume {
    OpenVolume {
        name: name.into(),
        partition_uuid: None,
        partition_label: None,
        device_names: Vec::new(),
        snapshot_of: None,
        tree,
    }
}

fn subvolume(root: &Path, path: &str) {
    must(
        "btrfs",
        &["subvolume", "create", root.join(path).to_str().unwrap()],
    );
}

fn snapshot(root: &Path, from: &str, to: &str, options: &[&str]) {
    let at = |path: &str| root.join(path).to_str().unwrap().to_owned();
    let mut args = vec!["subvolume", "snapshot"];
    args.extend(options);
    let (from, to) = (at(from), at(to));
    args.extend([from.as_str(), to.as_str()]);
    must("btrfs", &args);
}

fn system(root: &Path, at: &str, name: &str, fstab: &str) {
    fs::create_dir_all(root.join(at).join("etc")).unwrap();
    fs::create_dir_all(root.join(at).join("var/lib")).unwrap();
    fs::create_dir_all(root.join(at).join("home")).unwrap();
    fs::write(root.join(at).join("etc/os-release"), format!("ID={name}\n")).unwrap();
    fs::write(root.join(at).join("etc/fstab"), fstab).unwrap();
}

/// Makes a filesystem, fills it, and puts together what is on it and on `more`.
fn assembled(fill: impl Fn(&Path), more: &[OpenVolume]) -> Systems {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), &OPTION_SETS[0]);
    let mounted = Mounted::on(&image, "rw");
    fill(mounted.path());
    drop(mounted);
    let mut volumes = vec![volume("disk0/gpt2", open(&image))];
    volumes.extend_from_slice(more);
    let systems = assemble(&volumes).unwrap();
    for guest in &systems.guests {
        for mount in guest.mounts() {
            println!(
                "{} {:?}",
                mount.at,
                mount.subvolume.as_ref().map(ToString::to_string)
            );
        }
    }
    println!("{:#?} {:#?}", systems.snapshots, systems.gaps);
    systems
}

fn root_of(systems: &Systems, nth: usize) -> String {
    let root = systems.guests[nth].mounts()[0].subvolume.as_ref();
    root.expect("a root in a subvolume").to_string()
}

fn snapshots_of(systems: &Systems, nth: usize) -> Vec<String> {
    let own = systems.snapshots.iter().filter(|one| one.system == nth);
    own.map(|one| one.subvolume.path.to_string()).collect()
}

fn text(systems: &Systems, nth: usize, path: &str) -> String {
    let path = GuestPath::new(path).unwrap();
    let bytes = systems.guests[nth].read(&path, 1000).unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Debian: `@rootfs` named by its own fstab; snapshots within it and beside it; a container within it.
#[test]
fn a_root_that_fstab_names_is_told_from_its_snapshots_and_from_containers() {
    let systems = assembled(
        |root| {
            subvolume(root, "@rootfs");
            subvolume(root, "@var");
            subvolume(root, "@home");
            let fstab = "LABEL=dormouse / btrfs subvol=@rootfs 0 0\n\
                         LABEL=dormouse /var btrfs subvol=/@var 0 0\n\
                         LABEL=dormouse /home btrfs defaults,subvolid=258 0 0\n\
                         LABEL=dormouse /srv btrfs subvol=@srv 0 0\n";
            system(root, "@rootfs", "debian", fstab);
            fs::write(root.join("@var/marker"), "of @var").unwrap();
            fs::write(root.join("@home/marker"), "of @home").unwrap();
            fs::create_dir_all(root.join("@rootfs/.snapshots/1")).unwrap();
            snapshot(root, "@rootfs", "@rootfs/.snapshots/1/snapshot", &["-r"]);
            snapshot(root, "@rootfs", "before", &[]);
            fs::create_dir_all(root.join("@rootfs/var/lib/machines")).unwrap();
            subvolume(root, "@rootfs/var/lib/machines/inner");
            system(root, "@rootfs/var/lib/machines/inner", "inner", "");
        },
        &[],
    );
    assert_eq!(systems.guests.len(), 1);
    assert_eq!(root_of(&systems, 0), "/@rootfs");
    assert_eq!(
        snapshots_of(&systems, 0),
        ["/@rootfs/.snapshots/1/snapshot", "/before"]
    );
    assert_eq!(text(&systems, 0, "/var/marker"), "of @var");
    assert_eq!(text(&systems, 0, "/home/marker"), "of @home");
    let gaps: Vec<String> = systems.gaps.iter().map(ToString::to_string).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].contains("/srv") && gaps[0].contains("a subvolume that is not there"));
}

/// openSUSE: the default subvolume boots, whatever was rolled back.
#[test]
fn the_default_subvolume_boots_where_nothing_else_is_said() {
    let systems = assembled(
        |root| {
            subvolume(root, "@");
            subvolume(root, "@/.snapshots");
            for n in 1..=3 {
                fs::create_dir(root.join(format!("@/.snapshots/{n}"))).unwrap();
            }
            subvolume(root, "@/.snapshots/1/snapshot");
            system(
                root,
                "@/.snapshots/1/snapshot",
                "opensuse",
                "LABEL=dormouse / btrfs defaults 0 0\n",
            );
            snapshot(
                root,
                "@/.snapshots/1/snapshot",
                "@/.snapshots/2/snapshot",
                &["-r"],
            );
            snapshot(
                root,
                "@/.snapshots/2/snapshot",
                "@/.snapshots/3/snapshot",
                &[],
            );
            fs::write(
                root.join("@/.snapshots/3/snapshot/etc/os-release"),
                "ID=rolled-back\n",
            )
            .unwrap();
            let default = root.join("@/.snapshots/3/snapshot");
            must(
                "btrfs",
                &["subvolume", "set-default", default.to_str().unwrap()],
            );
        },
        &[],
    );
    assert_eq!(systems.guests.len(), 1);
    assert_eq!(root_of(&systems, 0), "/@/.snapshots/3/snapshot");
    assert_eq!(
        snapshots_of(&systems, 0),
        ["/@/.snapshots/1/snapshot", "/@/.snapshots/2/snapshot"]
    );
    assert_eq!(text(&systems, 0, "/etc/os-release"), "ID=rolled-back\n");
    assert!(systems.gaps.is_empty());
}

/// Fedora beside Ubuntu: the boot volume's command line names one, fstab the other; a copy whose parent is gone is known
/// by the machine's id.
#[test]
fn two_systems_on_one_filesystem_keep_their_own_snapshots() {
    let mut boot = MemoryTree::new();
    boot.file(
        "/loader/entries/fedora.conf",
        b"title Fedora\noptions root=UUID=1 ro rootflags=subvol=root quiet\n",
    );
    let systems = assembled(
        |root| {
            subvolume(root, "root");
            system(root, "root", "fedora", "");
            fs::write(
                root.join("root/etc/machine-id"),
                "0123456789abcdef0123456789abcdef\n",
            )
            .unwrap();
            subvolume(root, "@");
            system(root, "@", "ubuntu", "LABEL=dormouse / btrfs subvol=@ 0 1\n");
            fs::create_dir_all(root.join("timeshift/one")).unwrap();
            snapshot(root, "@", "timeshift/one/@", &[]);
            snapshot(root, "root", "middle", &[]);
            snapshot(root, "middle", "newer", &[]);
            must(
                "btrfs",
                &[
                    "subvolume",
                    "delete",
                    "-c",
                    root.join("middle").to_str().unwrap(),
                ],
            );
        },
        &[volume("disk0/gpt1", Arc::new(boot))],
    );
    assert_eq!(systems.guests.len(), 2);
    assert_eq!(root_of(&systems, 0), "/root");
    assert_eq!(snapshots_of(&systems, 0), ["/newer"]);
    assert_eq!(root_of(&systems, 1), "/@");
    assert_eq!(snapshots_of(&systems, 1), ["/timeshift/one/@"]);
}
