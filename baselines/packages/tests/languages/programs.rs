//! Modules and crates in executables, in ELF files made here field by field.

use std::io::Write as _;

use dormouse_block::Locator;
use dormouse_filesystem::{Guest, MemoryTree};
use dormouse_packages::{Inventory, Selection, take_of};

const MODULES: &str = "path\texample.org/cmd/tool\nmod\texample.org/tool\t(devel)\t\n\
    dep\tgithub.com/BurntSushi/toml\tv1.2.0\th1:x=\n\
    dep\tgolang.org/x/text\tv0.3.0\n=>\tgithub.com/fork/text\tv0.3.8\th1:y=\nbuild\t-compiler=gc\n";

/// A 64-bit little-endian executable of one segment, loaded at 0x400000, and one section.
fn elf(section: &str, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let names = format!("\0{section}\0.shstrtab\0");
    let mut file = vec![0; usize::try_from(offset).unwrap()];
    file.extend_from_slice(bytes);
    let names_at = file.len() as u64;
    file.extend_from_slice(names.as_bytes());
    let table_at = file.len() as u64;
    let mut header = |name: u32, address: u64, offset: u64, size: u64| {
        file.extend_from_slice(&name.to_le_bytes());
        file.extend_from_slice(&[0; 12]);
        for value in [address, offset, size] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        file.extend_from_slice(&[0; 24]);
    };
    header(0, 0, 0, 0);
    header(1, 0x40_0000 + offset, offset, bytes.len() as u64);
    header(
        u32::try_from(section.len()).unwrap() + 2,
        0,
        names_at,
        names.len() as u64,
    );
    let length = file.len() as u64;
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[40..48].copy_from_slice(&table_at.to_le_bytes());
    for (at, value) in [(54, 56_u16), (56, 1), (58, 64), (60, 3), (62, 2)] {
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    file[64..68].copy_from_slice(&1_u32.to_le_bytes());
    file[80..88].copy_from_slice(&0x40_0000_u64.to_le_bytes());
    file[96..104].copy_from_slice(&length.to_le_bytes());
    file
}

fn sentinels(modules: &str) -> Vec<u8> {
    let mut text = b"0w\xaf\x0c\x92t\x08\x02A\xe1\xc1\x07\xe6\xd6\x18\xe6".to_vec();
    text.extend_from_slice(modules.as_bytes());
    text.extend_from_slice(b"\xf92C1\x86\x18 r\0\x82B\x10A\x16\xd8\xf2");
    text
}

/// As Go has written it since 1.18.
fn inline(version: &str, modules: &str) -> Vec<u8> {
    let mut out = b"\xff Go buildinf:\x08\x02".to_vec();
    out.resize(32, 0);
    for text in [version.as_bytes().to_vec(), sentinels(modules)] {
        let mut length = text.len();
        while length > 0x7f {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend_from_slice(&text);
    }
    elf(".go.buildinfo", 256, &out)
}

/// As Go wrote it before: pointers to strings.
fn pointers(version: &str, modules: &str) -> Vec<u8> {
    let base = 0x40_0000_u64 + 256;
    let modules = sentinels(modules);
    let mut out = b"\xff Go buildinf:\x08\x00".to_vec();
    let word = |out: &mut Vec<u8>, value: u64| out.extend_from_slice(&value.to_le_bytes());
    word(&mut out, base + 32);
    word(&mut out, base + 48);
    word(&mut out, base + 64);
    word(&mut out, version.len() as u64);
    word(&mut out, base + 64 + version.len() as u64);
    word(&mut out, modules.len() as u64);
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(&modules);
    elf(".go.buildinfo", 256, &out)
}

fn auditable(json: &str) -> Vec<u8> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(json.as_bytes()).unwrap();
    elf(".dep-v0", 256, &packed.finish().unwrap())
}

fn look(program: &[u8]) -> Inventory {
    let mut tree = MemoryTree::new();
    tree.file("/usr/local/bin/program", program)
        .with(|metadata| metadata.mode = 0o755)
        .file("/usr/local/bin/note", program);
    let selection = Selection::parse(["default", "go", "cargo"]).unwrap();
    take_of(&Guest::of(tree), &Locator::machine("m"), &selection)
}

fn purls(inventory: &Inventory) -> Vec<&str> {
    let mut all: Vec<_> = inventory
        .packages
        .iter()
        .map(|package| package.purl.as_str())
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn both_forms_of_go_s_build_information_are_read() {
    for program in [inline("go1.21.5", MODULES), pointers("go1.21.5", MODULES)] {
        let inventory = look(&program);
        assert_eq!(
            purls(&inventory),
            [
                "pkg:golang/example.org/tool",
                "pkg:golang/github.com/burntsushi/toml@v1.2.0",
                "pkg:golang/github.com/fork/text@v0.3.8",
                "pkg:golang/stdlib@1.21.5",
            ]
        );
        let replaced = inventory.find("github.com/fork/text").next().unwrap();
        assert_eq!(
            (&*replaced.source_name, &*replaced.source_version),
            ("golang.org/x/text", "v0.3.0")
        );
        let location = replaced.location.as_ref().unwrap().to_string();
        // The same bytes that nobody may execute are no program.
        assert_eq!(location, "/usr/local/bin/program");
    }
}

#[test]
fn crates_of_auditable_programs_are_read() {
    let program = auditable(
        r#"{"packages":[{"name":"adler","version":"1.0.2","source":"crates.io"},
        {"name":"cc","version":"1.0.83","source":"crates.io","kind":"build"},
        {"name":"mine","version":"0.1.0","source":"local","root":true,"dependencies":[0]}]}"#,
    );
    assert_eq!(
        purls(&look(&program)),
        ["pkg:cargo/adler@1.0.2", "pkg:cargo/mine@0.1.0"]
    );
    assert!(
        look(&auditable("[]"))
            .gaps
            .iter()
            .any(|gap| gap.why.contains("list of crates"))
    );
}

/// Every truncation, and bytes changed here and there: an answer or a gap, never more.
#[test]
fn broken_programs_are_no_more_than_gaps() {
    let mut seed = 0x5eed_0012_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap() % below
    };
    let programs = [
        inline("go1.20", MODULES),
        pointers("go1.17", MODULES),
        auditable(r#"{"packages":[]}"#),
    ];
    let of_program = |program: &[u8]| {
        let inventory = look(program);
        inventory
            .gaps
            .iter()
            .filter(|gap| gap.at.path.is_some())
            .count()
    };
    let mut gaps = 0;
    for program in &programs {
        for end in (0..program.len()).step_by(7) {
            gaps += of_program(&program[..end]);
        }
        for _ in 0..1000 {
            let mut program = program.clone();
            for _ in 0..=random(4) {
                let at = random(program.len());
                program[at] = u8::try_from(random(256)).unwrap();
            }
            gaps += of_program(&program);
        }
    }
    assert!(gaps > 100, "{gaps}");
}
