//! Fields of on-disk structures: fixed-width integers at an offset, never out of bounds.

use crate::{Error, Result};

/// The `N` bytes of `bytes` at `offset`.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] when the structure ends before them.
pub fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N]> {
    slice_at(bytes, offset, N)?
        .try_into()
        .map_err(|_| short(offset))
}

/// The `len` bytes of `bytes` at `offset`.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] when the structure ends before them.
pub fn slice_at(bytes: &[u8], offset: usize, len: usize) -> Result<&[u8]> {
    offset
        .checked_add(len)
        .and_then(|end| bytes.get(offset..end))
        .ok_or_else(|| short(offset))
}

fn short(offset: usize) -> Error {
    Error::corrupt(format!("structure ends before its field at +{offset}"))
}

macro_rules! field {
    ($name:ident, $type:ty, $from:ident, $order:literal) => {
        #[doc = concat!("The ", $order, " integer at `offset`.")]
        ///
        /// # Errors
        /// [`crate::ErrorKind::Corrupt`] when the structure ends before it.
        pub fn $name(bytes: &[u8], offset: usize) -> Result<$type> {
            Ok(<$type>::$from(array_at(bytes, offset)?))
        }
    };
}

field!(be_u16, u16, from_be_bytes, "big-endian 16-bit");
field!(be_u32, u32, from_be_bytes, "big-endian 32-bit");
field!(be_u64, u64, from_be_bytes, "big-endian 64-bit");
field!(le_u16, u16, from_le_bytes, "little-endian 16-bit");
field!(le_u32, u32, from_le_bytes, "little-endian 32-bit");
field!(le_u64, u64, from_le_bytes, "little-endian 64-bit");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_beyond_the_end_are_errors() {
        assert_eq!(be_u16(&[1, 2], 0).unwrap(), 0x0102);
        assert_eq!(le_u16(&[1, 2], 0).unwrap(), 0x0201);
        assert!(be_u32(&[0; 4], 1).is_err());
        assert!(le_u64(&[0; 8], usize::MAX).is_err());
    }
}
