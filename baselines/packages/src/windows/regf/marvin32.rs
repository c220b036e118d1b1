//! Marvin32, the keyed checksum of entries in transaction logs.

/// The key that the configuration manager uses (`0x82EF4D887A4E55C5`), low half first.
const SEED: (u32, u32) = (0x7a4e_55c5, 0x82ef_4d88);

fn mix((mut low, mut high): (u32, u32)) -> (u32, u32) {
    high ^= low;
    low = low.rotate_left(20).wrapping_add(high);
    high = high.rotate_left(9) ^ low;
    low = low.rotate_left(27).wrapping_add(high);
    (low, high.rotate_left(19))
}

/// The checksum of `bytes`.
pub(super) fn marvin32(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut state = SEED;
    for word in words {
        state.0 = state.0.wrapping_add(u32::from_le_bytes(*word));
        state = mix(state);
    }
    // What is left, with a bit set after its last byte.
    let tail = rest
        .iter()
        .rev()
        .fold(0x80_u32, |tail, &byte| (tail << 8) | u32::from(byte));
    state.0 = state.0.wrapping_add(tail);
    let (low, high) = mix(mix(state));
    (u64::from(high) << 32) | u64::from(low)
}
