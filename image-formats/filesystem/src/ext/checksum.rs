//! The checksums of ext: CRC-32C for metadata, CRC-16 for group descriptors, CRC-32 (big-endian) for old journals.

/// CRC-32C as the kernel's `crc32c_le` computes it: continued from `seed`, without any final inversion.
#[must_use]
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// CRC-16 (polynomial 0x8005, reflected) continued from `seed`: the kernel's `crc16`.
#[must_use]
pub fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xA001
            } else {
                crc >> 1
            }
        })
    })
}

/// CRC-32 (polynomial 0x04C11DB7, most significant bit first) continued from `seed`: the kernel's `crc32_be`.
#[must_use]
pub fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, &byte| {
        (0..8).fold(crc ^ (u32::from(byte) << 24), |crc, _| {
            if crc & 0x8000_0000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x04C1_1DB7
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue of parametrised CRC algorithms: CRC-32/ISCSI, CRC-16/ARC, CRC-32/MPEG-2.
    #[test]
    fn check_values() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
        assert_eq!(crc32_be(!0, b"123456789"), 0x0376_E6E7);
    }
}
