//! How long a repository takes to open, and how much memory: `open FOLDER KEYRING [CACHE]`. With a cache folder, indices
//! are kept in it: the first opening fills it.
#![allow(clippy::print_stdout, reason = "a measurement is for people")]
#![allow(
    clippy::disallowed_methods,
    reason = "the cache folder is the caller's"
)]

use std::path::PathBuf;
use std::time::Instant;

use dormouse_advisories::{Access, IndexCache, Keyring, Repository, Selection, Trust};

fn main() -> dormouse_block::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_default();
    let keyring = Keyring::read(arguments.next().unwrap_or_default().as_ref())?;
    let cache = arguments.next().map(PathBuf::from);
    let load = |name: &str| std::fs::read(cache.as_ref()?.join(name)).ok();
    let save = |name: &str, parts: &[&[u8]]| {
        if let Some(cache) = &cache {
            drop(std::fs::write(cache.join(name), parts.concat()));
        }
    };
    for _ in 0..3 {
        let start = Instant::now();
        let repository = Repository::open_with(
            folder.as_ref(),
            &Access {
                keyring: &keyring,
                selection: &Selection::default(),
                as_of: jiff::Timestamp::now(),
                trust: &Trust::default(),
                cache: cache.is_some().then_some(IndexCache {
                    load: &load,
                    save: &save,
                }),
                ahead: None,
                later: None,
            },
        )?;
        println!(
            "{} packages in {:.3} s",
            repository.package_count(),
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
