//! Hashes of names in hashed directories (kernel: `fs/ext4/hash.c`).

use super::superblock::{FLAG_UNSIGNED_HASH, Superblock};

/// The hash that stands for the end of a directory and is never given to a name.
const END: u32 = 0x7FFF_FFFF << 1;

/// Which hash a directory uses, and how characters are widened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameHash {
    kind: Kind,
    unsigned: bool,
    seed: [u32; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Legacy,
    HalfMd4,
    Tea,
}

/// A name's hash: directories are sorted by `major`; `minor` breaks ties while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash {
    /// The hash; its lowest bit is always clear.
    pub major: u32,
    /// The second half.
    pub minor: u32,
}

impl NameHash {
    /// The hash of `version` as a directory's root block or the superblock names it: 0 to 2, with 3 to 5 their
    /// unsigned kinds. `None` for any other (SipHash needs a key).
    #[must_use]
    pub fn of(sb: &Superblock, version: u8) -> Option<Self> {
        let kind = match version {
            0 | 3 => Kind::Legacy,
            1 | 4 => Kind::HalfMd4,
            2 | 5 => Kind::Tea,
            _ => return None,
        };
        let seed = if sb.hash_seed == [0; 4] {
            [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476]
        } else {
            sb.hash_seed
        };
        Some(Self {
            kind,
            unsigned: version >= 3 || sb.flags & FLAG_UNSIGNED_HASH != 0,
            seed,
        })
    }

    /// The hash of `name`.
    #[must_use]
    pub fn hash(&self, name: &[u8]) -> Hash {
        let (major, minor) = match self.kind {
            Kind::Legacy => (self.legacy(name), 0),
            Kind::HalfMd4 => {
                let mut state = self.seed;
                let mut rest = name;
                loop {
                    let words: [u32; 8] = self.words(rest);
                    half_md4(&mut state, &words);
                    rest = rest.get(32..).unwrap_or_default();
                    if rest.is_empty() {
                        break;
                    }
                }
                (state[1], state[2])
            }
            Kind::Tea => {
                let mut state = self.seed;
                let mut rest = name;
                loop {
                    let words: [u32; 4] = self.words(rest);
                    tea(&mut state, &words);
                    rest = rest.get(16..).unwrap_or_default();
                    if rest.is_empty() {
                        break;
                    }
                }
                (state[0], state[1])
            }
        };
        let major = major & !1;
        Hash {
            major: if major == END {
                END.wrapping_sub(2)
            } else {
                major
            },
            minor,
        }
    }

    fn widen(&self, byte: u8) -> u32 {
        if self.unsigned {
            u32::from(byte)
        } else {
            i32::from(byte.cast_signed()).cast_unsigned()
        }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let mut hash0: u32 = 0x12A3_FE2D;
        let mut hash1: u32 = 0x37AB_E8F9;
        for &byte in name {
            let mut hash = hash1.wrapping_add(hash0 ^ self.widen(byte).wrapping_mul(7_152_373));
            if hash & 0x8000_0000 != 0 {
                hash = hash.wrapping_sub(0x7FFF_FFFF);
            }
            hash1 = hash0;
            hash0 = hash;
        }
        hash0 << 1
    }

    /// The next `N` words of a name; what is missing is filled with its length.
    fn words<const N: usize>(&self, name: &[u8]) -> [u32; N] {
        let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
        let pad = len | len << 8;
        let pad = pad | pad << 16;
        let mut out = [pad; N];
        for (word, part) in out.iter_mut().zip(name.chunks(4)) {
            *word = part
                .iter()
                .fold(pad, |word, &byte| self.widen(byte).wrapping_add(word << 8));
        }
        out
    }
}

fn half_md4(state: &mut [u32; 4], x: &[u32; 8]) {
    const K2: u32 = 0x5A82_7999;
    const K3: u32 = 0x6ED9_EBA1;
    let [mut a, mut b, mut c, mut d] = *state;
    let f = |x: u32, y: u32, z: u32| z ^ (x & (y ^ z));
    let g = |x: u32, y: u32, z: u32| (x & y).wrapping_add((x ^ y) & z);
    let h = |x: u32, y: u32, z: u32| x ^ y ^ z;
    let mut four =
        |mix: &dyn Fn(u32, u32, u32) -> u32, k: u32, words: [u32; 4], turns: [u32; 4]| {
            let step = |a: u32, b, c, d, word: u32, turn| {
                a.wrapping_add(mix(b, c, d))
                    .wrapping_add(word.wrapping_add(k))
                    .rotate_left(turn)
            };
            a = step(a, b, c, d, words[0], turns[0]);
            d = step(d, a, b, c, words[1], turns[1]);
            c = step(c, d, a, b, words[2], turns[2]);
            b = step(b, c, d, a, words[3], turns[3]);
        };
    four(&f, 0, [x[0], x[1], x[2], x[3]], [3, 7, 11, 19]);
    four(&f, 0, [x[4], x[5], x[6], x[7]], [3, 7, 11, 19]);
    four(&g, K2, [x[1], x[3], x[5], x[7]], [3, 5, 9, 13]);
    four(&g, K2, [x[0], x[2], x[4], x[6]], [3, 5, 9, 13]);
    four(&h, K3, [x[3], x[7], x[2], x[6]], [3, 9, 11, 15]);
    four(&h, K3, [x[1], x[5], x[0], x[4]], [3, 9, 11, 15]);
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

fn tea(state: &mut [u32; 4], x: &[u32; 4]) {
    let [mut b0, mut b1, ..] = *state;
    let mut sum: u32 = 0;
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9E37_79B9);
        b0 = b0.wrapping_add(
            (b1 << 4).wrapping_add(x[0]) ^ b1.wrapping_add(sum) ^ (b1 >> 5).wrapping_add(x[1]),
        );
        b1 = b1.wrapping_add(
            (b0 << 4).wrapping_add(x[2]) ^ b0.wrapping_add(sum) ^ (b0 >> 5).wrapping_add(x[3]),
        );
    }
    state[0] = state[0].wrapping_add(b0);
    state[1] = state[1].wrapping_add(b1);
}
