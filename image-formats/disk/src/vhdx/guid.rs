//! GUIDs as Microsoft lays them out: the first three fields little-endian.

use std::fmt;

use dormouse_block::{Result, array_at};

/// A GUID by its bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Guid(pub(super) [u8; 16]);

impl Guid {
    /// The one written `{a-b-c-d-e}`, with the last two fields as bytes.
    pub(super) const fn new(a: u32, b: u16, c: u16, rest: [u8; 8]) -> Self {
        let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) =
            (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        let [d0, d1, d2, d3, d4, d5, d6, d7] = rest;
        Self([
            a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7,
        ])
    }

    pub(super) fn at(bytes: &[u8], offset: usize) -> Result<Self> {
        Ok(Self(array_at(bytes, offset)?))
    }

    pub(super) fn is_nil(self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Where each byte of the text stands in the file.
        const ORDER: [&[usize]; 5] = [
            &[3, 2, 1, 0],
            &[5, 4],
            &[7, 6],
            &[8, 9],
            &[10, 11, 12, 13, 14, 15],
        ];
        for (number, field) in ORDER.iter().enumerate() {
            if number > 0 {
                f.write_str("-")?;
            }
            for at in *field {
                write!(f, "{:02x}", self.0.get(*at).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_written_as_microsoft_writes_them() {
        let guid = Guid::new(
            0x2dc2_7766,
            0xf623,
            0x4200,
            [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08],
        );
        assert_eq!(guid.to_string(), "2dc27766-f623-4200-9d64-115e9bfd4a08");
        assert_eq!(guid.0[..4], [0x66, 0x77, 0xc2, 0x2d]);
    }
}
