//! How long 400 packages take to judge against 100,000 advisories, and how long and in how much memory feeds compile:
//! `judge [ADVISORIES [MIB]]`. It writes as many OSV documents of that many MiB in all (100 unless told) into an archive, compiles it,
//! opens what was kept of it, and judges a machine by it, nine times. It prints key=value lines; `judge_ms` is the median.
#![allow(clippy::print_stdout, reason = "a measurement is for people")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "it writes its own feed"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use dormouse_advisories::{Advisories, FeedAccess, IndexCache, Target};
use dormouse_packages::{Family, OsRelease, Package, Purl};

/// Source packages of the system: as many as Debian's main has.
const SOURCES: usize = 35_000;

fn document(number: usize, size: usize) -> String {
    let name = format!("source-{}", number.wrapping_mul(7919) % SOURCES);
    let filler = "All work and no play makes a dull feed. ".repeat(size / 40);
    let affected = |release: &str| {
        format!(
            "{{\"package\": {{\"ecosystem\": \"Debian:{release}\", \"name\": \"{name}\"}}, \"ranges\": [{{\"type\": \"ECOSYSTEM\", \
             \"events\": [{{\"introduced\": \"0\"}}, {{\"fixed\": \"1.{}-1+deb{release}u1\"}}]}}]}}",
            number % 50
        )
    };
    format!(
        "{{\"id\": \"DSA-{number}-1\", \"modified\": \"2026-01-01T00:00:00Z\", \"published\": \"2025-01-01T00:00:00Z\", \
         \"upstream\": [\"CVE-2025-{:05}\"], \"details\": \"{filler}\", \"references\": [{{\"type\": \"ADVISORY\", \
         \"url\": \"https://example.org/{number}\"}}], \"affected\": [{}, {}]}}",
        number + 1000,
        affected("12"),
        affected("13")
    )
}

fn member(out: &mut impl std::io::Write, name: &str, body: &str) {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| {
        if let Some(place) = header.get_mut(at..at + text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
    };
    put(0, name);
    put(124, &format!("{:011o}", body.len()));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let mut put = |at: usize, text: &str| {
        if let Some(place) = header.get_mut(at..at + text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
    };
    put(148, &format!("{sum:06o}\0 "));
    out.write_all(&header).unwrap();
    out.write_all(body.as_bytes()).unwrap();
    let padding = body.len().next_multiple_of(512) - body.len();
    out.write_all(&vec![0; padding]).unwrap();
}

/// The most memory that this process ever had, in KiB, as the kernel says.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.unwrap().split_ascii_whitespace();
    words.take(1).map(|word| word.parse::<u64>().unwrap()).sum()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise| {
        let text = arguments.next();
        text.map_or(otherwise, |text| text.parse::<usize>().unwrap())
    };
    let (count, mib) = (number(100_000), number(100));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("osv.tar");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let size = (mib << 20) / count;
    for number in 0..count {
        member(
            &mut file,
            &format!("DSA-{number}.json"),
            &document(number, size.saturating_sub(1300)),
        );
    }
    file.write_all(&[0; 1024]).unwrap();
    file.flush().unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!(
        "advisories={count}\nfeed_mib={}\nbefore_kib={}",
        bytes >> 20,
        peak()
    );
    let kept = RefCell::new(BTreeMap::<String, Vec<u8>>::new());
    let load = |name: &str| kept.borrow().get(name).cloned();
    let save = |name: &str, parts: &[&[u8]]| {
        kept.borrow_mut().insert(name.to_owned(), parts.concat());
    };
    let access = FeedAccess {
        cache: Some(IndexCache {
            load: &load,
            save: &save,
        }),
        ..FeedAccess::default()
    };
    let start = Instant::now();
    let paths = [path];
    let compiled = Advisories::read_with(&paths, &access).unwrap();
    println!(
        "compile_seconds={:.2}\ncompile_peak_kib={}",
        start.elapsed().as_secs_f64(),
        peak()
    );
    drop(compiled);
    let start = Instant::now();
    let advisories = Advisories::read_with(&paths, &access).unwrap();
    let length: usize = kept.borrow().values().map(Vec::len).sum();
    println!(
        "open_seconds={:.2}\nkept_mib={}",
        start.elapsed().as_secs_f64(),
        length >> 20
    );
    let target = Target::of_system(&OsRelease {
        id: "debian".to_owned(),
        version_id: Some("12".to_owned()),
        ..OsRelease::default()
    });
    let packages: Vec<Package> = (0..400)
        .map(|number| {
            let name = format!("binary-{number}");
            let purl = Purl {
                family: Family::Dpkg,
                namespace: "debian",
                name: &name,
                version: "1.25-1",
                qualifiers: &[],
            };
            let mut package = Package::new(Family::Dpkg, &name, "1.25-1", "amd64", &purl);
            package.source_name = format!("source-{}", number * 83);
            package
        })
        .collect();
    let mut times = Vec::new();
    let mut concerns = 0_usize;
    for _ in 0..9 {
        let start = Instant::now();
        let judged = packages
            .iter()
            .map(|package| advisories.judge(&target, package));
        concerns = judged.map(|judgement| judgement.concerns.len()).sum();
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "packages={}\nstatements={}\nconcerns={concerns}\njudge_ms={:.3}",
        packages.len(),
        advisories.statement_count(),
        times.get(4).unwrap()
    );
}
