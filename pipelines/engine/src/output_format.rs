//! What a patched image is: an overlay, or a whole image in one of the formats that are written.

use std::fmt;

use dormouse_block::{Error, Result};
use dormouse_disk::FormatName;
use dormouse_overlay::{Container, Output, Packing};
use jiff::Timestamp;

/// The form of a patched image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// A layer over the base, which it needs.
    #[default]
    Overlay,
    /// qcow2 that needs no other file.
    Qcow2,
    /// The same, with what comes from the base compressed.
    Qcow2Zstd,
    /// Plain bytes.
    Raw,
    /// VMDK as a compressed stream.
    Vmdk,
    /// VHD of which only blocks with data are there.
    Vhd,
    /// VHD as plain bytes with a footer.
    VhdFixed,
    /// VHDX of which only blocks with data are there.
    Vhdx,
    /// The base's own format, whole.
    Base,
}

impl OutputFormat {
    /// All of them, by the names that flags give them.
    pub const ALL: [(&'static str, Self); 9] = [
        ("overlay", Self::Overlay),
        ("qcow2", Self::Qcow2),
        ("qcow2-zstd", Self::Qcow2Zstd),
        ("raw", Self::Raw),
        ("vmdk", Self::Vmdk),
        ("vhd", Self::Vhd),
        ("vhd-fixed", Self::VhdFixed),
        ("vhdx", Self::Vhdx),
        ("base", Self::Base),
    ];

    /// Whether the image needs no other file.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self != Self::Overlay
    }

    /// The same with `Base` replaced by the format that it stands for.
    ///
    /// # Errors
    /// `Unsupported` when images of the base's format are not written.
    pub fn over(self, base: FormatName) -> Result<Self> {
        if self != Self::Base {
            return Ok(self);
        }
        match base {
            FormatName::RAW => Ok(Self::Raw),
            FormatName::QCOW2 => Ok(Self::Qcow2),
            FormatName::VMDK => Ok(Self::Vmdk),
            FormatName::VHD => Ok(Self::Vhd),
            FormatName::VHDX => Ok(Self::Vhdx),
            other => Err(Error::unsupported(format!(
                "{other} images are read and not written; one of the other formats must be asked for"
            ))),
        }
    }

    /// What is written for it, over a base of this format and at this time.
    pub(crate) fn output(self, base: FormatName, now: Timestamp) -> Result<Output> {
        let made = u64::try_from(now.as_second()).unwrap_or(0);
        let image = |container| Output::Image { container, made };
        Ok(match self.over(base)? {
            Self::Overlay => Output::Overlay,
            Self::Qcow2 | Self::Base => Output::Standalone {
                packing: Packing::Plain,
            },
            Self::Qcow2Zstd => Output::Standalone {
                packing: Packing::Zstd,
            },
            Self::Raw => image(Container::Raw),
            Self::Vmdk => image(Container::Vmdk),
            Self::Vhd => image(Container::VhdDynamic),
            Self::VhdFixed => image(Container::VhdFixed),
            Self::Vhdx => image(Container::Vhdx),
        })
    }

    /// The format that the image is read as.
    ///
    /// # Errors
    /// As [`OutputFormat::over`].
    pub fn format(self, base: FormatName) -> Result<FormatName> {
        Ok(match self.over(base)? {
            Self::Overlay | Self::Qcow2 | Self::Qcow2Zstd | Self::Base => FormatName::QCOW2,
            Self::Raw => FormatName::RAW,
            Self::Vmdk => FormatName::VMDK,
            Self::Vhd | Self::VhdFixed => FormatName::VHD,
            Self::Vhdx => FormatName::VHDX,
        })
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, format)| format == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl std::str::FromStr for OutputFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            format!("{name:?} is none of {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_the_base_decides() {
        for (name, format) in OutputFormat::ALL {
            assert_eq!(name.parse::<OutputFormat>().unwrap(), format);
            assert_eq!(format.to_string(), name);
        }
        assert!("floppy".parse::<OutputFormat>().is_err());
        let base = OutputFormat::Base;
        assert_eq!(base.over(FormatName::VHDX).unwrap(), OutputFormat::Vhdx);
        assert!(base.over(FormatName::VDI).is_err());
        assert_eq!(
            OutputFormat::Overlay.format(FormatName::VDI).unwrap(),
            FormatName::QCOW2
        );
    }
}
