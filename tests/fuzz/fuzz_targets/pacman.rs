//! Any bytes as an entry of pacman's database, its configuration, and boot menus.
#![no_main]

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::take;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut tree = MemoryTree::new();
    tree.file("/var/lib/pacman/local/a-1-1/desc", data)
        .file("/etc/pacman.conf", data)
        .file("/boot/grub/grub.cfg", data)
        .file("/boot/grub/grubenv", data)
        .file("/boot/extlinux.conf", data)
        .file("/boot/loader/entries/a.conf", data)
        .file("/etc/yum.repos.d/a.repo", data)
        .file("/etc/apt/sources.list", data)
        .file("/etc/apt/sources.list.d/a.sources", data)
        .file("/boot/vmlinuz-1", b"");
    let inventory = take(&Guest::of(tree), &Locator::default());
    assert!(inventory.coverage.present > 0 || !inventory.coverage.complete);
});
