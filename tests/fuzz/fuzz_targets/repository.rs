//! Any bytes as a Release file, as an index of packages, and as a keyring.
#![no_main]

use dormouse_advisories::{IndexedPackage, Keyring, Release};
use dormouse_packages::deb822::paragraphs;
use dormouse_packages::dpkg::RelationField;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&which, data)) = data.split_first() else {
        return;
    };
    match which % 3 {
        0 => drop(Release::parse(data)),
        1 => drop(Keyring::parse(data)),
        _ => {
            for (_, paragraph) in paragraphs(data) {
                let Ok(package) = IndexedPackage::parse(paragraph, 0) else {
                    continue;
                };
                assert!(!package.filename.starts_with('/'));
                assert!(package.filename.split('/').all(|name| !matches!(name, "" | "." | "..")));
                for field in RelationField::ALL {
                    let _ = package.relations(field);
                }
            }
        }
    }
});
