//! Changes described over a guest whose fstab mounts an EFI partition, carried out on it.

use std::sync::Arc;

use dormouse_filesystem::{Follow, MemoryTree, OpenVolume, Time, Tree, assemble};
use dormouse_overlay::{
    Attributes, Content, Draft, DraftNode, Editor, PayloadReader, Supply, apply, open_editor,
};

use crate::device::FileDevice;
use crate::volumes::{check, make, must, of_mtools, tree};
use crate::workload::path;

#[test]
fn what_is_drafted_below_boot_efi_reaches_the_efi_partition() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "esp", "-F 32 -s 1 -i 1234ABCD -n ESP", 64);
    let text = folder.path().join("text");
    std::fs::write(&text, b"old").unwrap();
    let shown = image.to_str().unwrap();
    must("mmd", &["-i", shown, "::/EFI", "::/EFI/debian"]);
    for to in ["::/EFI/debian/grub.cfg", "::/EFI/debian/OTHER.EFI"] {
        must("mcopy", &["-i", shown, text.to_str().unwrap(), to]);
    }
    let mut root = MemoryTree::new();
    root.file(
        "/etc/fstab",
        b"UUID=1234-ABCD /boot/efi vfat umask=0077 0 1\n",
    )
    .file("/etc/os-release", b"ID=debian\n")
    .directory("/boot/efi");
    let volume = |name: &str, tree: Arc<dyn Tree>| OpenVolume {
        name: name.into(),
        partition_uuid: None,
        partition_label: None,
        device_names: Vec::new(),
        snapshot_of: None,
        tree,
    };
    let systems = assemble(&[
        volume("disk0/gpt1", Arc::new(root)),
        volume("disk0/gpt15", tree(&image)),
    ])
    .unwrap();
    assert!(systems.gaps.is_empty());
    let guest = Arc::new(systems.guests.into_iter().next().unwrap());
    let none: PayloadReader = Arc::new(|_, _, _| unreachable!("there is no payload"));
    let mut draft = Draft::new(guest.clone(), none);
    let attributes = Attributes {
        mode: 0o600,
        uid: 7,
        gid: 8,
        mtime: Time {
            seconds: 1_700_000_001,
            nanoseconds: 9,
        },
        xattrs: [(b"security.selinux".to_vec(), b"label".to_vec())].into(),
    };
    let mut put = |at: &str, bytes: &[u8]| {
        let node = DraftNode::File(Content::bytes(bytes));
        draft.put(&path(at), node, attributes.clone()).unwrap();
    };
    put("/boot/efi/EFI/debian/shimx64.efi", b"shim");
    put("/boot/efi/EFI/debian/grub.cfg", b"new");
    draft
        .make_directories(&path("/boot/efi/EFI/BOOT"), &attributes)
        .unwrap();
    draft
        .rename(
            &path("/boot/efi/EFI/debian/OTHER.EFI"),
            &path("/boot/efi/EFI/BOOT/BOOTX64.EFI"),
        )
        .unwrap();
    let drafted = draft
        .get(&path("/boot/efi/EFI/debian/shimx64.efi"), Follow::No)
        .unwrap()
        .unwrap();
    let kept = drafted.attributes;
    assert_eq!((kept.mode, kept.uid, kept.gid), (0o755, 0, 0));
    assert_eq!(kept.mtime.seconds, 1_700_000_000);
    assert!(kept.xattrs.is_empty());

    let kind = guest.mounts()[1].tree.info().kind;
    let now = Time::default();
    let mut editor = open_editor(&kind, FileDevice::open(&image), now)
        .unwrap()
        .expect("an editor of FAT");
    let mut editors: Vec<Option<&mut dyn Editor>> = vec![None, Some(&mut *editor)];
    let differences = draft.differences().unwrap();
    apply(&guest, &differences, &mut editors, &mut |_, content| {
        Ok(Supply::Reader(draft.open(content)?))
    })
    .unwrap();
    editor.finish().unwrap();

    check(&image, "esp");
    let found = of_mtools(&image);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "/EFI",
            "/EFI/BOOT",
            "/EFI/BOOT/BOOTX64.EFI",
            "/EFI/debian",
            "/EFI/debian/grub.cfg",
            "/EFI/debian/shimx64.efi"
        ]
    );
    assert_eq!(found["/EFI/debian/grub.cfg"].as_deref(), Some(&b"new"[..]));
    assert_eq!(found["/EFI/BOOT/BOOTX64.EFI"].as_deref(), Some(&b"old"[..]));
    let after = tree(&image);
    let mut node = after.root();
    for name in ["EFI", "debian", "shimx64.efi"] {
        node = after.lookup(node, name.as_bytes()).unwrap().unwrap().node;
    }
    let metadata = after.metadata(node).unwrap();
    assert_eq!((metadata.mode, metadata.mtime), (kept.mode, kept.mtime));
}
