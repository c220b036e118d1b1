//! Reads the rpm database in a folder of the host and says how long that took:
//!
//!     cargo run --release -p dormouse-packages --example rpmdb -- /var/lib/rpm

#![allow(
    clippy::print_stdout,
    reason = "an example shows what it does on standard output"
)]

use std::time::Instant;

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("a folder is wanted")?;
    let mut tree = MemoryTree::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name();
            let path = format!("/var/lib/rpm/{}", name.to_string_lossy());
            tree.file(&path, &std::fs::read(entry.path())?);
        }
    }
    let guest = Guest::of(tree);
    for _ in 0..5 {
        let start = Instant::now();
        let inventory = dormouse_packages::take(&guest, &Locator::default());
        let records: usize = inventory
            .coverage
            .files
            .iter()
            .map(|file| file.records)
            .sum();
        println!(
            "{records} headers, {} gaps, {:?}",
            inventory.gaps.len(),
            start.elapsed()
        );
    }
    Ok(())
}
