//! Edits of broken filesystems: refused or done, never a panic, a hang, or a write outside.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dormouse_block::{Error, Result, Source};
use dormouse_overlay::ext::{Ext4Editor, Options};
use dormouse_overlay::{Device, Editor};

use crate::model::{NOW, Random, attributes, make, path};

pub struct Memory(pub Mutex<Vec<u8>>);

impl Source for Memory {
    fn len(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let bytes = self.0.lock().unwrap();
        let from = usize::try_from(offset)
            .ok()
            .and_then(|at| bytes.get(at..at.checked_add(buf.len())?));
        buf.copy_from_slice(from.ok_or_else(|| Error::corrupt("a read outside"))?);
        Ok(())
    }
}

impl Device for Memory {
    fn write_at(&self, offset: u64, from: &[u8]) -> Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let to = usize::try_from(offset)
            .ok()
            .and_then(|at| bytes.get_mut(at..at.checked_add(from.len())?));
        to.ok_or_else(|| Error::corrupt("a write outside"))?
            .copy_from_slice(from);
        Ok(())
    }
}

/// Processor time of this thread: the wall's says how busy the host is.
fn spent() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn edit(device: Arc<dyn Device>, random: &mut Random) -> Result<()> {
    let mut editor = Box::new(Ext4Editor::open(device, Options { now: NOW })?);
    let mut with = attributes(0o644);
    with.xattrs
        .insert(b"security.selinux".to_vec(), vec![b's'; 30]);
    with.xattrs.insert(b"user.long".to_vec(), vec![b'l'; 300]);
    let names = [
        "small",
        "large",
        "link",
        "long",
        "folder",
        "folder/n1",
        "folder/n150",
        "many",
        "many/m3",
        "new",
        "folder/new",
    ];
    for _ in 0..30 {
        let name = path(names[random.below(names.len())]);
        let other = path(names[random.below(names.len())]);
        // Whatever fails, the next operation must cope.
        let _ = match random.below(8) {
            0 => editor.put_file(&name, &with, 5000, &mut &[7; 5000][..]),
            1 => editor.remove(&name),
            2 => editor.rename(&name, &other),
            3 => editor.link(&name, &other),
            4 => editor.set_attributes(&name, &with),
            5 => editor.make_directory(&name, &attributes(0o755)),
            6 => editor.put_symlink(&name, &with, &[b't'; 100]),
            _ => (0..40).try_for_each(|n| {
                let name = name.join(format!("bulk-{n}")).unwrap();
                editor.put_file(&name, &attributes(0o600), 10, &mut &[1; 10][..])
            }),
        };
    }
    editor.finish()
}

/// DORMOUSE_FUZZ_SECONDS lengthens the run; a failure names its seed.
#[test]
fn broken_filesystems_are_edited_without_panic() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::create_dir_all(content.join("folder")).unwrap();
    fs::create_dir_all(content.join("many")).unwrap();
    fs::write(content.join("small"), b"s").unwrap();
    fs::write(content.join("large"), vec![b'l'; 400_000]).unwrap();
    std::os::unix::fs::symlink("t".repeat(200), content.join("long")).unwrap();
    std::os::unix::fs::symlink("small", content.join("link")).unwrap();
    for n in 0..200 {
        fs::write(content.join(format!("folder/n{n}")), b"n").unwrap();
        fs::write(content.join(format!("many/m{n}")), b"").unwrap();
    }
    let images: Vec<Vec<u8>> = [
        ("plain", "-t ext4 -b 1024 -O ^metadata_csum"),
        ("summed", "-t ext4 -b 1024"),
        (
            "inline",
            "-t ext4 -b 1024 -O inline_data,^metadata_csum -I 256",
        ),
        ("classic", "-t ext2 -b 1024"),
        (
            "clusters",
            "-t ext4 -b 1024 -O bigalloc,^metadata_csum -C 4096",
        ),
        ("quota", "-t ext4 -b 1024 -O quota,^metadata_csum"),
        ("orphans", "-t ext4 -b 1024 -O orphan_file,^metadata_csum"),
    ]
    .iter()
    .map(|(name, options)| {
        let image = make(
            folder.path(),
            name,
            &format!("{options} -N 600"),
            8,
            Some(&content),
        );
        fs::read(image).unwrap()
    })
    .collect();
    let used: Vec<Vec<usize>> = images
        .iter()
        .map(|image| {
            (0..image.len() / 64)
                .filter(|n| image[n * 64..n * 64 + 64] != [0; 64])
                .collect()
        })
        .collect();
    let seconds = std::env::var("DORMOUSE_FUZZ_SECONDS").map_or(5, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut done) = (0x00ED_0000_u64, 0);
    while Instant::now() < until {
        seed += 1;
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let which = random.below(images.len());
        let mut bytes = images[which].clone();
        for _ in 0..random.below(6) {
            let at = match random.below(4) {
                0 => 1024 + random.below(3072),
                _ => used[which][random.below(used[which].len())] * 64 + random.below(64),
            };
            bytes[at] = match random.below(4) {
                0 => 0xFF,
                1 => 0,
                2 => bytes[at] ^ (1 << random.below(8)),
                _ => random.next() as u8,
            };
        }
        let started = spent();
        let device = Arc::new(Memory(Mutex::new(bytes)));
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| edit(device, &mut random)));
        let outcome = outcome.unwrap_or_else(|_| panic!("seed {seed:#x} panicked"));
        done += u64::from(outcome.is_ok());
        let took = spent() - started;
        assert!(
            took < Duration::from_secs(20),
            "seed {seed:#x} took {took:?}"
        );
    }
    println!("{} executions, {done} of them finished", seed - 0x00ED_0000);
    assert!(done > 0);
}
