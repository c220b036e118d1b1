//! The kernel that runs in a machine's memory, and which build of it lies on disk.

use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{KernelText, MemoryKernels, build_on_disk};

use crate::{Search, in_pieces};

pub(crate) const TEXT: &str = "Linux version 6.1.0-9-amd64 (debian-kernel@lists.debian.org) (gcc-12 12.2.0) #1 SMP Debian 6.1.27-1 (2023-05-08)";
pub(crate) const OTHER: &str = "Linux version 6.1.0-13-amd64 (debian-kernel@lists.debian.org) (gcc-12 12.2.0) #1 SMP Debian 6.1.55-1 (2023-09-29)";

fn memory(texts: &[(usize, &str)]) -> Vec<u8> {
    let mut memory = vec![0; 64 << 10];
    for (at, text) in texts {
        memory[*at..*at + text.len()].copy_from_slice(text.as_bytes());
    }
    memory
}

/// In one piece, and in pieces of a size that puts borders everywhere.
fn search(memory: &[u8]) -> MemoryKernels {
    let whole = in_pieces(memory, memory.len());
    for size in [97, 1000, 5000, 20_011] {
        assert_eq!(in_pieces(memory, size), whole, "pieces of {size}");
    }
    whole
}

fn banner() -> String {
    format!("{TEXT}\n")
}

fn log() -> String {
    format!("{TEXT}8)\n")
}

#[test]
fn the_banner_and_the_log_decide_and_quotes_do_not() {
    let quoted = format!("[    0.000000] {OTHER}\n");
    let found = search(&memory(&[
        (7000, &banner()),
        (20_000, &log()),
        (30_000, &quoted),
        (40_000, "Linux version %s"),
        (41_000, "Linux version 6.1.0-9-amd64 (x@y) # SMP Debian\n"),
    ]));
    let running = found.running.unwrap();
    assert_eq!(running.release, "6.1.0-9-amd64");
    assert_eq!(
        running.build.as_deref(),
        Some("#1 SMP Debian 6.1.27-1 (2023-05-08)")
    );
    assert_eq!(running.why.len(), 2, "{:?}", running.why);
    let kinds: Vec<_> = found.candidates.iter().map(|one| one.text).collect();
    assert_eq!(
        kinds,
        [KernelText::Banner, KernelText::Log, KernelText::Quoted]
    );
}

#[test]
fn texts_over_borders_are_found_once() {
    for at in 4096 - 200..4096 + 5 {
        let found = search(&memory(&[(at, &banner()), (20_000, &log())]));
        assert_eq!(found.running.unwrap().release, "6.1.0-9-amd64");
        assert!(found.candidates.iter().all(|one| one.places == 1), "{at}");
    }
    // Two blocks never go on in each other.
    let text = banner();
    let (one, two) = text.as_bytes().split_at(40);
    let mut search = Search::default();
    search.take("a", 0, one);
    search.take("b", 40, two);
    assert!(search.finish().candidates.is_empty());
}

#[test]
fn one_witness_is_none_and_two_kernels_are_a_gap() {
    let found = search(&memory(&[(7000, &banner())]));
    assert!(found.running.unwrap_err().contains("nothing else does"));
    let found = search(&memory(&[
        (7000, &banner()),
        (20_000, &log()),
        (30_000, &format!("{OTHER}\n")),
    ]));
    let why = found.running.unwrap_err();
    assert!(
        why.contains("6.1.0-9-amd64") && why.contains("6.1.0-13-amd64"),
        "{why}"
    );
    assert!(
        search(&memory(&[]))
            .running
            .unwrap_err()
            .contains("no text")
    );
}

#[test]
fn vmcoreinfo_is_a_witness_and_may_object() {
    let note = "OSRELEASE=6.1.0-9-amd64\nBUILD-ID=eb4fbcd0\nPAGESIZE=4096\n";
    let found = search(&memory(&[(8192, note), (7000, &banner())]));
    let running = found.running.unwrap();
    assert_eq!(running.build_id.as_deref(), Some("eb4fbcd0"));
    // As the kernel's own note has it.
    let mut memory = memory(&[(7000, &banner())]);
    memory[8192 + 12..8192 + 24].copy_from_slice(b"VMCOREINFO\0\0");
    let text = note.replace("-9-", "-13-");
    memory[8192 + 24..8192 + 24 + text.len()].copy_from_slice(text.as_bytes());
    let mut search = Search::default();
    search.take("ram", 0, &memory);
    let why = search.finish().running.unwrap_err();
    assert!(why.contains("6.1.0-13-amd64"), "{why}");
}

#[test]
fn windows_is_known_by_its_shared_page() {
    let mut page = vec![0; 4096];
    let mut put = |at: usize, value: u32| page[at..at + 4].copy_from_slice(&value.to_le_bytes());
    for (at, value) in [
        (0x14, 77),
        (0x18, 30_000_000),
        (0x1c, 30_000_000),
        (0x260, 20_348),
        (0x264, 3),
        (0x268, 1),
        (0x26c, 10),
    ] {
        put(at, value);
    }
    let folder: Vec<u8> = "C:\\Windows".bytes().flat_map(|byte| [byte, 0]).collect();
    page[0x30..0x30 + folder.len()].copy_from_slice(&folder);
    let mut search = Search::default();
    search.take("ram", 4096, &page);
    let running = search.finish().running.unwrap();
    assert_eq!(
        (running.system.as_str(), running.release.as_str()),
        ("windows", "10.0.20348")
    );
    page[0x1c] ^= 1;
    let mut search = Search::default();
    search.take("ram", 4096, &page);
    assert!(search.finish().running.is_err());
}

#[test]
fn the_head_of_an_image_says_its_build() {
    let mut image = vec![0; 0x4000];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x1000_u16.to_le_bytes());
    let text =
        b"6.1.0-9-amd64 (debian-kernel@lists.debian.org) #1 SMP Debian 6.1.27-1 (2023-05-08)\0";
    image[0x1200..0x1200 + text.len()].copy_from_slice(text);
    let mut tree = MemoryTree::new();
    tree.file("/boot/vmlinuz-6.1.0-9-amd64", &image)
        .file("/boot/vmlinuz-6.1.0-13-amd64", &image)
        .file("/boot/vmlinuz-virt", b"short");
    let guest = Guest::of(tree);
    let build = |release: &str| build_on_disk(&guest, release).unwrap();
    assert_eq!(
        build("6.1.0-9-amd64").as_deref(),
        Some("#1 SMP Debian 6.1.27-1 (2023-05-08)")
    );
    // Another release than its name says.
    assert_eq!(build("6.1.0-13-amd64"), None);
    assert_eq!(build("6.6.1-0-virt"), None);
    assert_eq!(build("9.9"), None);
}
