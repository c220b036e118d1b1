//! Feature bits of the superblock by name.

use dormouse_block::{Error, Result};

/// `XFS_SB_VERSION_NLINKBIT`: inodes count links with 32 bits.
const NLINK: u32 = 0x0020;
/// `XFS_SB_VERSION_EXTFLGBIT`: extents may be unwritten.
const EXTENT_FLAG: u32 = 0x1000;
/// `XFS_SB_VERSION_DIRV2BIT`: directories of version 2.
const DIRECTORY_2: u32 = 0x2000;
/// `XFS_SB_VERSION_BORGBIT`: names are found whatever their ASCII case.
const ASCII_CI: u32 = 0x4000;
/// `XFS_SB_VERSION_MOREBITSBIT`: `sb_features2` counts.
const MORE: u32 = 0x8000;
/// `XFS_SB_VERSION_SHAREDBIT`, which Linux never knew.
const SHARED: u32 = 0x0200;

/// `XFS_SB_VERSION2_LAZYSBCOUNTBIT`: counters of the superblock are only right after unmounting.
const LAZY_COUNT: u32 = 0x2;
/// `XFS_SB_VERSION2_FTYPE`: names say what they lead to (version 4).
const FTYPE_4: u32 = 0x200;

/// `XFS_SB_FEAT_INCOMPAT_FTYPE`: names say what they lead to (version 5).
const FTYPE: u32 = 0x1;
/// `XFS_SB_FEAT_INCOMPAT_META_UUID`: metadata carries another UUID than the filesystem.
const META_UUID: u32 = 0x4;
/// `XFS_SB_FEAT_INCOMPAT_NEEDSREPAIR`.
const NEEDS_REPAIR: u32 = 0x10;

/// Bits of the low half of `sb_versionnum` above its version number.
const VERSION: &[(u32, &str)] = &[
    (0x0010, "attr"),
    (NLINK, "nlink"),
    (0x0040, "quota"),
    (0x0080, "align"),
    (0x0100, "dalign"),
    (0x0400, "logv2"),
    (0x0800, "sector"),
    (EXTENT_FLAG, "extflg"),
    (DIRECTORY_2, "dirv2"),
    (ASCII_CI, "ascii-ci"),
    (MORE, "morebits"),
];
/// Bits of `sb_features2`.
const VERSION_2: &[(u32, &str)] = &[
    (0x01, "reserved1"),
    (LAZY_COUNT, "lazy-count"),
    (0x04, "reserved4"),
    (0x08, "attr2"),
    (0x10, "parent-v4"),
    (0x80, "projid32bit"),
    (0x100, "crc"),
    (FTYPE_4, "ftype"),
];
/// Bits of `sb_features_ro_compat`; none of them matters to a reader.
const RO_COMPAT: &[(u32, &str)] = &[
    (0x1, "finobt"),
    (0x2, "rmapbt"),
    (0x4, "reflink"),
    (0x8, "inobtcount"),
];
/// Bits of `sb_features_incompat`.
const INCOMPAT: &[(u32, &str)] = &[
    (FTYPE, "ftype"),
    (0x2, "sparse"),
    (META_UUID, "meta_uuid"),
    (0x8, "bigtime"),
    (NEEDS_REPAIR, "needsrepair"),
    (0x20, "nrext64"),
    (0x40, "exchange"),
    (0x80, "parent"),
    (0x100, "metadir"),
    (0x200, "zoned"),
    (0x400, "zone_gaps"),
];
/// Bits of `sb_features_log_incompat`.
const LOG_INCOMPAT: &[(u32, &str)] = &[(0x1, "log_xattrs")];

/// The feature words of a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features {
    /// `sb_versionnum`.
    pub(super) version: u32,
    /// `sb_features2`.
    pub(super) more: u32,
    /// `sb_features_ro_compat`.
    pub(super) ro_compat: u32,
    /// `sb_features_incompat`.
    pub(super) incompat: u32,
    /// `sb_features_log_incompat`.
    pub(super) log_incompat: u32,
}

fn known(table: &[(u32, &str)]) -> u32 {
    table.iter().fold(0, |all, (bit, _)| all | bit)
}

fn refuse(what: &str, bits: u32, table: &[(u32, &str)]) -> Result<()> {
    match bits & !known(table) {
        0 => Ok(()),
        unknown => Err(Error::unsupported(format!(
            "unknown {what} of XFS: {unknown:#x}"
        ))),
    }
}

impl Features {
    /// 4 or 5 once [`Features::check`] has passed.
    pub(super) fn number(self) -> u32 {
        self.version & 0xF
    }

    /// Whether this is version 5, whose metadata has checksums and says where it belongs.
    pub(super) fn v5(self) -> bool {
        self.number() == 5
    }

    /// Refuses what cannot be read.
    ///
    /// # Errors
    /// `Unsupported` by name; `Corrupt` for a filesystem that says it must be repaired.
    pub(super) fn check(self) -> Result<()> {
        match self.number() {
            4 | 5 => {}
            number @ 1..=3 => {
                return Err(Error::unsupported(format!("XFS of version {number}")));
            }
            number => {
                return Err(Error::corrupt(format!("XFS of version {number}")));
            }
        }
        let bits = self.version & 0xFFF0;
        if bits & SHARED != 0 {
            return Err(Error::unsupported("a shared XFS"));
        }
        refuse("version bits", bits, VERSION)?;
        if self.v5() {
            refuse("incompatible features", self.incompat, INCOMPAT)?;
            if self.incompat & NEEDS_REPAIR != 0 {
                return Err(Error::corrupt("XFS says that it must be repaired first"));
            }
            return Ok(());
        }
        if bits & MORE != 0 {
            refuse("more version bits", self.more, VERSION_2)?;
        }
        if bits & DIRECTORY_2 == 0 {
            return Err(Error::unsupported("XFS with directories of version 1"));
        }
        if bits & EXTENT_FLAG == 0 {
            return Err(Error::unsupported("XFS without unwritten extents"));
        }
        Ok(())
    }

    /// Refuses to replay a log that may hold what is not known, as the kernel does.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn check_log(self) -> Result<()> {
        if !self.v5() {
            return Ok(());
        }
        refuse("features of the log", self.log_incompat, LOG_INCOMPAT)?;
        refuse(
            "features under an unreplayed log",
            self.ro_compat,
            RO_COMPAT,
        )
    }

    /// Whether directory entries say what they lead to.
    pub(super) fn ftype(self) -> bool {
        if self.v5() {
            self.incompat & FTYPE != 0
        } else {
            self.version & MORE != 0 && self.more & FTYPE_4 != 0
        }
    }

    /// Whether names are found whatever the case of their letters.
    pub(super) fn ascii_ci(self) -> bool {
        self.version & ASCII_CI != 0
    }

    /// Whether metadata carries `sb_meta_uuid`.
    pub(super) fn meta_uuid(self) -> bool {
        self.v5() && self.incompat & META_UUID != 0
    }

    /// The names of all that is used; bits without a known name by their number.
    pub(super) fn names(self) -> Vec<String> {
        let mut out = vec![format!("v{}", self.number())];
        let mut add = |bits: u32, table: &[(u32, &str)], rest: &str| {
            let used = table.iter().filter(|(bit, _)| bits & bit != 0);
            out.extend(used.map(|(_, name)| (*name).to_owned()));
            let unknown = bits & !known(table);
            if unknown != 0 {
                out.push(format!("{rest}_{unknown:#x}"));
            }
        };
        add(self.version & 0xFFF0, VERSION, "version");
        if self.v5() {
            add(self.more & LAZY_COUNT, VERSION_2, "more");
            add(self.ro_compat, RO_COMPAT, "ro_compat");
            add(self.incompat, INCOMPAT, "incompat");
            add(self.log_incompat, LOG_INCOMPAT, "log_incompat");
        } else if self.version & MORE != 0 {
            add(self.more, VERSION_2, "more");
        }
        out
    }
}
