//! Real packages, old and new, from the distribution.

use std::path::{Path, PathBuf};

use dormouse_remedy::dpkg::Unpacking;

use crate::root::Bench;

fn fixtures() -> PathBuf {
    std::env::var_os("DORMOUSE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    )
}

/// The old and the new package of one folder.
fn pair(folder: &str) -> (PathBuf, PathBuf) {
    let folder = fixtures().join("packages/deb").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let [new, old] = files.try_into().unwrap();
    (old, new)
}

/// The old package's files and record as dpkg itself leaves them, without its scripts having run.
fn begin(old: &Path) -> Bench {
    let bench = Bench::new();
    bench.force_unpack_without_scripts(old);
    bench
}

#[test]
fn real_updates_are_unpacked_as_dpkg_unpacks_them() {
    for folder in [
        "bookworm/liblzma5",
        "bookworm/libpcre2-8-0",
        "bullseye/libcap2",
        "bullseye/liblzma5",
        "bullseye/libtasn1-6",
        "bullseye/xxd",
    ] {
        let (old, new) = pair(folder);
        let bench = begin(&old);
        let outcomes = bench.compare(&[&new]);
        assert!(
            matches!(outcomes[0], Unpacking::Done { .. }),
            "{folder}: {outcomes:?}"
        );
    }
}
