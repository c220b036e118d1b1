//! Mixed operations, the same on a model and on volumes of every kind.

use std::path::Path;

use dormouse_block::{ErrorKind, GuestPath};
use dormouse_filesystem::{NodeKind, Time};
use dormouse_overlay::fat::FatEditor;
use dormouse_overlay::{Attributes, Editor};

use crate::device::FileDevice;
use crate::volumes::{self, Content, check, make, must, of_kernel, of_mtools, ours};

const OPTION_SETS: &[(&str, &str, u64)] = &[
    ("fat12", "-F 12", 4),
    ("fat12-large-clusters", "-F 12 -s 16", 20),
    ("fat16", "-F 16 -n EFI", 32),
    ("fat16-one-copy", "-F 16 -f 1 -s 4", 32),
    ("fat32", "-F 32 -s 1 -n SYSTEM", 64),
    ("fat32-4k", "-F 32 -s 8", 300),
    ("fat32-small", "-F 32", 33),
    ("sectors-4k", "-F 32 -S 4096 -s 1", 300),
    ("sectors-2k", "-F 16 -S 2048 -r 512", 40),
];

/// A small generator (xorshift64*), so that a failing run can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8))
            .flat_map(|_| self.next().to_le_bytes())
            .take(len)
            .collect()
    }
}

pub fn path(text: &str) -> GuestPath {
    GuestPath::new(text).unwrap()
}

pub fn attributes() -> Attributes {
    Attributes {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time {
            seconds: 1_700_000_001,
            nanoseconds: 123,
        },
        xattrs: std::collections::BTreeMap::new(),
    }
}

fn open(image: &Path) -> Box<FatEditor> {
    let editor = FatEditor::open(FileDevice::open(image));
    Box::new(editor.unwrap_or_else(|error| panic!("{}: {}", image.display(), error.with_causes())))
}

struct Run<'a> {
    model: &'a mut Content,
    random: &'a mut Random,
    editor: Box<dyn Editor>,
    serial: &'a mut usize,
}

impl Run<'_> {
    fn pick(&mut self, folder: bool) -> Option<String> {
        let names: Vec<&String> = self
            .model
            .iter()
            .filter(|(_, content)| content.is_none() == folder)
            .map(|(name, _)| name)
            .collect();
        (!names.is_empty()).then(|| names[self.random.below(names.len())].clone())
    }

    fn fresh(&mut self) -> String {
        *self.serial += 1;
        let n = *self.serial;
        let folder = match self.random.below(3) {
            0 => String::new(),
            _ => self.pick(true).unwrap_or_default(),
        };
        let tail = "é".repeat(self.random.below(20));
        match self.random.below(7) {
            0 => format!("{folder}/UP{n}.TXT"),
            1 => format!("{folder}/lower{n}.c"),
            2 => format!("{folder}/a much longer name, number {n}{tail}.config"),
            3 => format!("{folder}/.hidden{n}"),
            4 => format!("{folder}/two.dots.{n}"),
            5 => format!("{folder}/日本語-{n}-{tail}"),
            _ => format!("{folder}/grubx64 {n}.efi"),
        }
    }

    /// A new name, or at times that of a file.
    fn target(&mut self) -> String {
        if self.random.below(4) == 0
            && let Some(name) = self.pick(false)
        {
            return name;
        }
        self.fresh()
    }

    fn below(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}/");
        self.model
            .keys()
            .filter(|other| other.starts_with(&prefix))
            .cloned()
            .collect()
    }

    fn file(&mut self, name: &str) {
        let len = match self.random.below(12) {
            0 => 0,
            1 => 100_000,
            2 => 4096,
            _ => self.random.below(3000),
        };
        let bytes = self.random.bytes(len);
        let size = u64::try_from(len).unwrap();
        let done = if self.random.below(2) == 0 {
            self.editor
                .put_file(&path(name), &attributes(), size, &mut &bytes[..])
        } else {
            self.editor.stage(size, &mut &bytes[..]).and_then(|staged| {
                let mut back = vec![0; len + 5];
                let n = self.editor.read_staged(staged, 0, &mut back).unwrap();
                assert_eq!(back[..n], bytes, "staged bytes are read back");
                self.editor.put_staged(&path(name), &attributes(), staged)
            })
        };
        match done {
            Ok(()) => {
                self.model.insert(name.to_owned(), Some(bytes));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Limit, "{name}: {error}"),
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=44 => {
                let name = self.target();
                self.file(&name);
            }
            45..=56 => {
                let name = self.fresh();
                match self.editor.make_directory(&path(&name), &attributes()) {
                    Ok(()) => {
                        self.model.insert(name, None);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Limit, "{error}"),
                }
            }
            57..=74 => self.rename(),
            75..=92 => {
                let folder = self.random.below(3) == 0;
                let Some(name) = self.pick(folder) else {
                    return;
                };
                let below = self.below(&name);
                if !below.is_empty() {
                    assert!(self.editor.remove(&path(&name)).is_err(), "{name}");
                    if self.random.below(4) != 0 {
                        return;
                    }
                }
                for child in below.iter().rev().chain([&name]) {
                    self.editor.remove(&path(child)).unwrap();
                    self.model.remove(child);
                }
            }
            93..=96 => {
                let Some(name) = self.pick(false) else {
                    return;
                };
                // Found whatever its case.
                let upper = name.to_uppercase();
                let name = if upper.to_lowercase() == name.to_lowercase() {
                    upper
                } else {
                    name
                };
                self.editor
                    .set_attributes(&path(&name), &attributes())
                    .unwrap();
            }
            _ => {
                let folder = self.pick(true).unwrap_or_default();
                for _ in 0..self.random.below(60) {
                    *self.serial += 1;
                    let name = format!("{folder}/bulk file {}", self.serial);
                    self.file(&name);
                }
            }
        }
    }

    fn rename(&mut self) {
        let folder = self.random.below(3) == 0;
        let Some(from) = self.pick(folder) else {
            return;
        };
        let to = if folder { self.fresh() } else { self.target() };
        if from == to {
            return;
        }
        if to.starts_with(&format!("{from}/")) {
            assert!(self.editor.rename(&path(&from), &path(&to)).is_err());
            return;
        }
        match self.editor.rename(&path(&from), &path(&to)) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Limit, "{from} to {to}: {error}");
                // What stood there may be gone.
                self.model.remove(&to);
                return;
            }
        }
        for name in self.below(&from).into_iter().chain([from.clone()]) {
            let content = self.model.remove(&name).unwrap();
            self.model
                .insert(format!("{to}{}", &name[from.len()..]), content);
        }
    }
}

fn compare(name: &str, who: &str, found: &Content, wanted: &Content) {
    for (path, content) in wanted {
        let is = found
            .get(path)
            .unwrap_or_else(|| panic!("{name}: {who} does not see {path}"));
        assert!(is == content, "{name}: {who} sees other bytes in {path}");
    }
    let more: Vec<_> = found
        .keys()
        .filter(|path| !wanted.contains_key(*path))
        .collect();
    assert!(more.is_empty(), "{name}: {who} sees {more:?}");
}

fn verify(name: &str, image: &Path, model: &Content) {
    check(image, name);
    compare(name, "our reader", &ours(image), model);
    compare(name, "mtools", &of_mtools(image), model);
    match of_kernel(image) {
        Some(found) => compare(name, "the kernel", &found, model),
        None => println!(
            "{name}: not compared with the kernel, which this host does not let us mount with"
        ),
    }
}

#[test]
fn mixed_operations_leave_what_the_model_says_and_fsck_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = std::env::var("DORMOUSE_WORKLOAD_ROUNDS").map_or(1, |text| text.parse().unwrap());
    for round in 0..rounds {
        for (nth, (name, options, mib)) in (1_u64..).zip(OPTION_SETS) {
            let image = make(folder.path(), name, options, *mib);
            // What another program made is there to be changed, too.
            let text = folder.path().join("text");
            std::fs::write(&text, vec![b't'; 9000]).unwrap();
            must(
                "mmd",
                &["-i", image.to_str().unwrap(), "::/EFI", "::/EFI/debian"],
            );
            for to in [
                "::/EFI/debian/shimx64.efi",
                "::/Made by another.txt",
                "::/SHORT.TXT",
            ] {
                must(
                    "mcopy",
                    &["-i", image.to_str().unwrap(), text.to_str().unwrap(), to],
                );
            }
            let mut model = of_mtools(&image);
            assert_eq!(model.len(), 5, "{name}: {:?}", model.keys());
            compare(name, "our reader", &ours(&image), &model);
            let mut random = Random(4711 + round * 100 + nth);
            let mut serial = 0;
            for _ in 0..3 {
                let mut run = Run {
                    model: &mut model,
                    random: &mut random,
                    editor: open(&image),
                    serial: &mut serial,
                };
                for _ in 0..250 {
                    run.step();
                }
                run.editor.finish().unwrap();
                verify(name, &image, &model);
            }
            // Down to nothing: all clusters come back.
            let mut editor = open(&image);
            for path_of in model.keys().rev() {
                editor.remove(&path(path_of)).unwrap();
            }
            editor.finish().unwrap();
            verify(name, &image, &Content::new());
            std::fs::remove_file(image).unwrap();
        }
    }
}

#[test]
fn a_full_volume_is_a_limit_and_stays_sound() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, mib) in [("fat12", "-F 12", 2), ("fat32", "-F 32 -s 1", 34)] {
        let image = make(folder.path(), name, options, mib);
        let mut editor = open(&image);
        let mut model = Content::new();
        let mut limits = 0;
        for n in 0..3000_u32 {
            let bytes = vec![7; 40_000];
            let name = format!("/a file with number {n}");
            match editor.put_file(&path(&name), &attributes(), 40_000, &mut &bytes[..]) {
                Ok(()) => {
                    model.insert(name, Some(bytes));
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
                    limits += 1;
                    if limits > 20 {
                        break;
                    }
                }
            }
        }
        assert!(limits > 0, "{name} was never full");
        editor.finish().unwrap();
        verify(name, &image, &model);
    }
}

#[test]
fn what_fat_cannot_hold_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "refuse", "-F 16", 32);
    let before = std::fs::read(&image).unwrap();
    let mut editor = open(&image);
    let mut labelled = attributes();
    labelled.xattrs.insert(b"user.x".to_vec(), vec![1]);
    for (error, kind) in [
        (
            editor.put_symlink(&path("/l"), &attributes(), b"t"),
            ErrorKind::Unsupported,
        ),
        (
            editor.put_special(&path("/p"), &attributes(), NodeKind::Fifo, None),
            ErrorKind::Unsupported,
        ),
        (
            editor.make_directory(&path("/d"), &labelled),
            ErrorKind::Unsupported,
        ),
        (
            editor.make_directory(&path("/a:b"), &attributes()),
            ErrorKind::Denied,
        ),
        (
            editor.make_directory(&path("/end."), &attributes()),
            ErrorKind::Denied,
        ),
        (
            editor.put_file(&path("/none/f"), &attributes(), 1, &mut &b"x"[..]),
            ErrorKind::Denied,
        ),
        (
            editor.put_file(&path("/short"), &attributes(), 9, &mut &b"x"[..]),
            ErrorKind::Corrupt,
        ),
        (
            editor.stage(5 << 32, &mut &b""[..]).map(|_| ()),
            ErrorKind::Limit,
        ),
    ] {
        assert_eq!(error.unwrap_err().kind(), kind);
    }
    editor.finish().unwrap();
    let after = std::fs::read(&image).unwrap();
    let tables = 0..80_000;
    assert!(before[tables.clone()] == after[tables], "tables changed");
    check(&image, "refuse");
}

#[test]
fn a_volume_that_was_not_left_clean_or_differs_from_its_copy_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, at, value) in [("state", 0x25, 1_u8), ("copy", 512 * 4 + 300, 9)] {
        let image = make(folder.path(), name, "-F 16 -s 4", 32);
        let mut bytes = std::fs::read(&image).unwrap();
        bytes[at] = value;
        std::fs::write(&image, &bytes).unwrap();
        let Err(error) = FatEditor::open(FileDevice::open(&image)) else {
            panic!("{name} was not refused");
        };
        assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error}");
        assert_eq!(std::fs::read(&image).unwrap(), bytes, "{name} was written");
    }
}

/// Thousands of like names, each with a short name of its own.
#[test]
fn a_folder_of_five_thousand_like_names_is_not_slow() {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), "many", "-F 32 -s 1", 64);
    let mut editor = open(&image);
    let mut model = Content::new();
    editor
        .make_directory(&path("/many"), &attributes())
        .unwrap();
    model.insert("/many".to_owned(), None);
    for n in 0..5000 {
        let name = format!("/many/a long name with number {n}.extension");
        editor
            .put_file(&path(&name), &attributes(), 1, &mut &b"x"[..])
            .unwrap();
        model.insert(name, Some(b"x".to_vec()));
    }
    editor.finish().unwrap();
    verify("many", &image, &model);
    let _ = volumes::tree(&image);
}
