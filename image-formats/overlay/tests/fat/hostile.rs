//! Edits of broken volumes: refused or done, never a panic, a hang, or a write outside.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dormouse_block::{Error, Result, Source};
use dormouse_overlay::fat::FatEditor;
use dormouse_overlay::{Device, Editor};

use crate::volumes::{make, must};
use crate::workload::{Random, attributes, path};

struct Memory(Mutex<Vec<u8>>);

impl Source for Memory {
    fn len(&self) -> u64 {
        u64::try_from(self.0.lock().unwrap().len()).unwrap()
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

fn edit(device: Arc<dyn Device>, random: &mut Random) -> Result<()> {
    let mut editor = Box::new(FatEditor::open(device)?);
    let names = [
        "EFI",
        "EFI/debian",
        "EFI/debian/shim.efi",
        "top",
        "EFI/new",
        "new name",
        "EFI/debian/n",
    ];
    for _ in 0..30 {
        let name = path(names[random.below(names.len())]);
        let other = path(names[random.below(names.len())]);
        // Whatever fails, the next operation must cope.
        let _ = match random.below(6) {
            0 => editor.put_file(&name, &attributes(), 5000, &mut &[7; 5000][..]),
            1 => editor.remove(&name),
            2 => editor.rename(&name, &other),
            3 => editor.set_attributes(&name, &attributes()),
            4 => editor.make_directory(&name, &attributes()),
            _ => (0..40).try_for_each(|n| {
                let name = name.join(format!("bulk-{n}")).unwrap();
                editor.put_file(&name, &attributes(), 10, &mut &[1; 10][..])
            }),
        };
    }
    editor.finish()
}

/// DORMOUSE_FUZZ_SECONDS lengthens the run; a failure names its seed.
#[test]
fn broken_volumes_are_edited_without_panic() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(&text, vec![b't'; 9000]).unwrap();
    let images: Vec<Vec<u8>> = [
        ("a", "-F 12", 2),
        ("b", "-F 16 -s 1", 8),
        ("c", "-F 32 -s 1", 34),
    ]
    .iter()
    .map(|(name, options, mib)| {
        let image = make(folder.path(), name, options, *mib);
        let shown = image.to_str().unwrap();
        must("mmd", &["-i", shown, "::/EFI", "::/EFI/debian"]);
        for to in ["::/EFI/debian/shim.efi", "::/top", "::/EFI/a longer name"] {
            must("mcopy", &["-i", shown, text.to_str().unwrap(), to]);
        }
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
    let seconds = std::env::var("DORMOUSE_FUZZ_SECONDS").map_or(4, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut done) = (0_u64, 0_u64);
    while Instant::now() < until {
        seed += 1;
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let which = random.below(images.len());
        let mut bytes = images[which].clone();
        for _ in 0..random.below(6) {
            let at = match random.below(4) {
                0 => random.below(90),
                _ => used[which][random.below(used[which].len())] * 64 + random.below(64),
            };
            bytes[at] = match random.below(3) {
                0 => 0xFF,
                1 => bytes[at] ^ (1 << random.below(8)),
                _ => u8::try_from(random.below(256)).unwrap(),
            };
        }
        let started = Instant::now();
        let device = Arc::new(Memory(Mutex::new(bytes)));
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| edit(device, &mut random)));
        let outcome = outcome.unwrap_or_else(|_| panic!("seed {seed:#x} panicked"));
        done += u64::from(outcome.is_ok());
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "seed {seed:#x} took {:?}",
            started.elapsed()
        );
    }
    println!("{seed} executions, {done} of them finished");
    assert!(done > 0);
}
