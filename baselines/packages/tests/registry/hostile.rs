//! Broken hives: whatever a file holds, reading it ends, and what is not read is an error.

use std::sync::Arc;

use dormouse_block::{Bytes, ErrorKind, Source};
use dormouse_packages::windows::regf::Hive;

use crate::oracle::{dump, registry, unpack};

/// A small generator of pseudo-random numbers (xorshift), so that a failure is the same failure again.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.next(6) {
            let at = self.next(bytes.len());
            match self.next(8) {
                0 => bytes.truncate(at.max(16)),
                1 => bytes[at] = 0xff,
                2 => {
                    // Offsets that lead elsewhere: one word of the hive over another.
                    let (from, to) = (self.next(bytes.len() / 4) * 4, at / 4 * 4);
                    let word: Vec<u8> = bytes.iter().skip(from).take(4).copied().collect();
                    bytes.splice(to..(to + word.len()).min(bytes.len()), word);
                }
                _ => bytes[at] ^= 1 << self.next(8),
            }
        }
    }
}

/// Makes the checksum of a base block right.
pub(crate) fn seal(bytes: &mut [u8]) {
    let Some(sector) = bytes.get_mut(..512) else {
        return;
    };
    let sum = sector[..508].chunks_exact(4).fold(0, |sum, word| {
        sum ^ u32::from_le_bytes(word.try_into().unwrap())
    });
    sector[508..].copy_from_slice(&sum.to_le_bytes());
}

fn shared(bytes: Vec<u8>) -> Arc<dyn Source> {
    Arc::new(Bytes::new(bytes))
}

#[test]
fn no_mutation_of_a_hive_or_its_log_is_more_than_an_error() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &["nt-hive", "regipy", "yarp"]);
    let read = |name: &str, most: usize| {
        let mut bytes = std::fs::read(folder.path().join(name)).unwrap();
        bytes.truncate(most);
        bytes
    };
    let seeds = [
        (
            read("yarp/StringValuesHive", 8192),
            read("yarp/NewDirtyHive2/NewDirtyHive.LOG2", 40_960),
        ),
        (
            read("yarp/NewDirtyHive2/NewDirtyHive", 24_576),
            read("yarp/NewDirtyHive2/NewDirtyHive.LOG2", 40_960),
        ),
        (
            read("regipy/SAM", 24_576),
            read("yarp/OldLogWithRemnantData", 40_960),
        ),
        (read("nt-hive/testhive", 159_744), Vec::new()),
    ];
    let mut random = Random(0x5eed_0011);
    let (mut read, mut refused) = (0, 0);
    for round in 0..3000 {
        // The largest one less often.
        let (hive, log) = &seeds[if round % 10 == 0 { 3 } else { round % 3 }];
        let (mut hive, mut log) = (hive.clone(), log.clone());
        random.mutate(&mut hive);
        if !log.is_empty() && random.next(2) == 0 {
            random.mutate(&mut log);
        }
        // Most of what is behind the checksum is only met when that is right.
        if random.next(8) != 0 {
            seal(&mut hive);
        }
        match Hive::open(shared(hive), &[shared(log)]).and_then(|hive| dump(&hive, "")) {
            Ok(_) => read += 1,
            Err(error) => {
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Limit
                    ),
                    "round {round}: {error}"
                );
                refused += 1;
            }
        }
    }
    assert!(
        read > 300 && refused > 300,
        "{read} read, {refused} refused"
    );
}

/// A root key that is its own only child says that it has ever more of them.
#[test]
fn keys_that_lead_round_are_met_by_a_bound_on_work() {
    let mut hive = std::fs::read(registry().join("libguestfs/minimal")).unwrap();
    let root = 4096 + 0x20 + 4;
    let list = 4096 + 0x800;
    hive[root + 16..root + 20].copy_from_slice(&0x20_u32.to_le_bytes());
    hive[root + 20..root + 24].copy_from_slice(&2_u32.to_le_bytes());
    hive[root + 28..root + 32].copy_from_slice(&0x800_u32.to_le_bytes());
    hive[list..list + 4].copy_from_slice(&(-16_i32).to_le_bytes());
    hive[list + 4..list + 16].copy_from_slice(b"li\x02\0\x20\0\0\0\x20\0\0\0");
    let hive = Hive::open(shared(hive), &[]).unwrap();
    assert_eq!(dump(&hive, "").unwrap_err().kind(), ErrorKind::Limit);
}
