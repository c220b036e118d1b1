//! Images cut short and with bytes changed at random: every answer is bounded, nothing panics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormouse_block::{Bytes, Error, ErrorKind, Result, Source};
use dormouse_filesystem::{Filesystem, NodeKind, Tree};

/// Nodes that one walk of a hostile image visits.
const MAX_NODES: usize = 3000;
/// Names of it that are looked up one by one.
const MAX_LOOKUPS: usize = 200;
/// Bytes that are read of each of its files.
const MAX_READ: u64 = 1 << 20;

/// An image with some bytes changed.
struct Patched {
    image: Arc<[u8]>,
    changes: Vec<(usize, u8)>,
}

impl Source for Patched {
    fn len(&self) -> u64 {
        self.image.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|at| self.image.get(at..at.checked_add(buf.len())?))
            .ok_or_else(|| Error::corrupt("a read outside"))?;
        buf.copy_from_slice(from);
        for (at, byte) in &self.changes {
            if let Some(to) = at
                .checked_sub(offset as usize)
                .and_then(|at| buf.get_mut(at))
            {
                *to = *byte;
            }
        }
        Ok(())
    }
}

/// Processor time of this thread: the wall's says how busy the host is.
fn spent() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Everything that can be asked, going on after failures; a failure must name whose fault it is.
pub fn read_on(tree: &dyn Tree) -> usize {
    let ok = |error: &Error| {
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Limit
            ),
            "{error}"
        );
    };
    let _ = (tree.info(), tree.left());
    let mut seen = BTreeSet::new();
    let mut todo = vec![tree.root()];
    let mut lookups = 0;
    let mut buf = vec![0; 65536];
    while let Some(node) = todo.pop() {
        if !seen.insert(node) || seen.len() > MAX_NODES {
            continue;
        }
        let metadata = match tree.metadata(node) {
            Ok(metadata) => metadata,
            Err(error) => {
                ok(&error);
                continue;
            }
        };
        let _ = tree.xattrs(node).inspect_err(ok);
        let _ = tree.lookup(node, b"name-1234");
        match metadata.kind {
            NodeKind::Directory => {
                for entry in tree.read_dir(node).inspect_err(ok).unwrap_or_default() {
                    assert!(!entry.name.is_empty() && !entry.name.contains(&b'/'));
                    lookups += 1;
                    if lookups < MAX_LOOKUPS {
                        let _ = tree.lookup(node, &entry.name).inspect_err(ok);
                    }
                    todo.push(entry.node);
                }
            }
            NodeKind::File => {
                let mut at = 0;
                while at < metadata.size.min(MAX_READ) {
                    match tree.read_at(node, at, &mut buf) {
                        Ok(n) => {
                            assert!(n > 0, "reading stands still");
                            at += n as u64;
                        }
                        Err(error) => {
                            ok(&error);
                            break;
                        }
                    }
                }
                let _ = tree.read_at(node, metadata.size.saturating_sub(9), &mut buf);
            }
            _ => {
                let _ = tree.read_link(node);
            }
        }
    }
    seen.len()
}

/// Cuts and changes `images` for a while. DORMOUSE_FUZZ_SECONDS lengthens the run, DORMOUSE_FUZZ_SEED repeats one
/// execution; a failure names its seed. `often` are the places that steer everything.
pub fn mutate(filesystem: &dyn Filesystem, images: &[Vec<u8>], often: &[(usize, usize)]) {
    let images: Vec<Arc<[u8]>> = images.iter().map(|image| Arc::from(&image[..])).collect();
    for image in &images {
        for cut in [
            0,
            1,
            511,
            512,
            1024,
            4096,
            32768,
            40000,
            image.len() / 3,
            image.len() - 1,
        ] {
            let volume: Arc<dyn Source> = Arc::new(Bytes::new(&image[..cut.min(image.len())]));
            let _ = filesystem.probe(volume.as_ref()).unwrap();
            if let Ok(tree) = filesystem.open(volume) {
                read_on(&*tree);
            }
        }
    }
    let used: Vec<Vec<usize>> = images
        .iter()
        .map(|image| {
            (0..image.len() / 64)
                .filter(|n| {
                    let part = &image[n * 64..n * 64 + 64];
                    part.iter().any(|byte| *byte != part[0])
                })
                .collect()
        })
        .collect();
    let seconds = std::env::var("DORMOUSE_FUZZ_SECONDS").map_or(1.5, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let only: Option<u64> = std::env::var("DORMOUSE_FUZZ_SEED")
        .ok()
        .map(|text| text.parse().unwrap());
    let mut seed = only.map_or(0, |seed| seed - 1);
    let (mut opened, mut rounds) = (0_u64, 0_u64);
    while Instant::now() < until {
        seed += 1;
        rounds += 1;
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = move |most: usize| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8) as usize % most.max(1)
        };
        let which = next(images.len());
        let mut bytes = Patched {
            image: images[which].clone(),
            changes: Vec::new(),
        };
        for _ in 0..1 + next(6) {
            let at = if next(4) == 0 && !often.is_empty() {
                let (start, len) = often[next(often.len())];
                start + next(len)
            } else {
                used[which][next(used[which].len())] * 64 + next(64)
            };
            let Some(old) = bytes.image.get(at) else {
                continue;
            };
            let byte = match next(4) {
                0 => 0xFF,
                1 => 0,
                2 => old ^ (1 << next(8)),
                _ => next(256) as u8,
            };
            bytes.changes.push((at, byte));
        }
        let started = spent();
        let volume: Arc<dyn Source> = Arc::new(bytes);
        let tree = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            filesystem.open(volume).map(|tree| read_on(&*tree)).is_ok()
        }));
        opened += u64::from(tree.unwrap_or_else(|_| panic!("seed {seed} panics")));
        let took = spent() - started;
        assert!(took < Duration::from_secs(15), "seed {seed} took {took:?}");
        if only.is_some() {
            break;
        }
    }
    println!(
        "{}: {rounds} executions, {opened} of them opened",
        filesystem.name()
    );
    assert!(opened > 0 || only.is_some());
}
