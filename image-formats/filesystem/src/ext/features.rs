//! Feature bits of the superblock: what a filesystem uses, by name.

use dormouse_block::{Error, Result};

macro_rules! features {
    ($table:ident: $($(#[$doc:meta])* $name:ident = $bit:literal, $word:literal;)*) => {
        $($(#[$doc])* pub const $name: u32 = $bit;)*
        const $table: &[(u32, &str)] = &[$(($bit, $word)),*];
    };
}

features! { COMPAT_NAMES:
    /// Blocks are preallocated to directories.
    DIR_PREALLOC = 0x1, "dir_prealloc";
    /// Inodes for AFS servers.
    IMAGIC_INODES = 0x2, "imagic_inodes";
    /// There is a journal.
    HAS_JOURNAL = 0x4, "has_journal";
    /// Extended attributes.
    EXT_ATTR = 0x8, "ext_attr";
    /// Blocks are kept for growing the descriptor table.
    RESIZE_INODE = 0x10, "resize_inode";
    /// Directories may be hashed.
    DIR_INDEX = 0x20, "dir_index";
    /// At most two backups of the superblock.
    SPARSE_SUPER2 = 0x200, "sparse_super2";
    /// The journal has an area for fast commits.
    FAST_COMMIT = 0x400, "fast_commit";
    /// Inode numbers and the UUID never change.
    STABLE_INODES = 0x800, "stable_inodes";
    /// Orphans are listed in a file.
    ORPHAN_FILE = 0x1000, "orphan_file";
}

features! { INCOMPAT_NAMES:
    /// Compressed files; never merged into Linux.
    COMPRESSION = 0x1, "compression";
    /// Directory entries say what they lead to.
    FILETYPE = 0x2, "filetype";
    /// The journal holds what the filesystem does not yet.
    RECOVER = 0x4, "needs_recovery";
    /// The volume is a journal of another filesystem.
    JOURNAL_DEV = 0x8, "journal_dev";
    /// Descriptors are spread over groups.
    META_BG = 0x10, "meta_bg";
    /// Files may be mapped by extents.
    EXTENTS = 0x40, "extent";
    /// Block numbers have 64 bits.
    BIT64 = 0x80, "64bit";
    /// Multiple mount protection.
    MMP = 0x100, "mmp";
    /// Bitmaps and tables of several groups lie together.
    FLEX_BG = 0x200, "flex_bg";
    /// Values of extended attributes may be in inodes of their own.
    EA_INODE = 0x400, "ea_inode";
    /// Data in directory entries; never merged into Linux.
    DIRDATA = 0x1000, "dirdata";
    /// The seed of checksums stands in the superblock.
    CSUM_SEED = 0x2000, "metadata_csum_seed";
    /// Directories over 2 GiB or three levels deep.
    LARGEDIR = 0x4000, "large_dir";
    /// Small files are in their inodes.
    INLINE_DATA = 0x8000, "inline_data";
    /// Encrypted files.
    ENCRYPT = 0x1_0000, "encrypt";
    /// Directories may ignore case.
    CASEFOLD = 0x2_0000, "casefold";
}

features! { RO_COMPAT_NAMES:
    /// Backups of the superblock in few groups.
    SPARSE_SUPER = 0x1, "sparse_super";
    /// Files over 2 GiB.
    LARGE_FILE = 0x2, "large_file";
    /// Never used.
    BTREE_DIR = 0x4, "btree_dir";
    /// Files whose size is counted in blocks.
    HUGE_FILE = 0x8, "huge_file";
    /// Group descriptors have checksums and unused tables.
    GDT_CSUM = 0x10, "uninit_bg";
    /// Directories with more than 65,000 subdirectories.
    DIR_NLINK = 0x20, "dir_nlink";
    /// Inodes have further fields.
    EXTRA_ISIZE = 0x40, "extra_isize";
    /// Snapshots; never merged into Linux.
    HAS_SNAPSHOT = 0x80, "snapshot";
    /// Quota is kept in hidden files.
    QUOTA = 0x100, "quota";
    /// Blocks are allocated in clusters.
    BIGALLOC = 0x200, "bigalloc";
    /// All metadata has checksums.
    METADATA_CSUM = 0x400, "metadata_csum";
    /// Replicas; never merged into Linux.
    REPLICA = 0x800, "replica";
    /// Never to be written.
    READONLY = 0x1000, "read-only";
    /// Quota by project.
    PROJECT = 0x2000, "project";
    /// Files share blocks; to be read only.
    SHARED_BLOCKS = 0x4000, "shared_blocks";
    /// Files with a Merkle tree.
    VERITY = 0x8000, "verity";
    /// The orphan file is not empty.
    ORPHAN_PRESENT = 0x1_0000, "orphan_present";
}

/// Incompatible features that are read.
const READ: u32 = FILETYPE
    | RECOVER
    | META_BG
    | EXTENTS
    | BIT64
    | MMP
    | FLEX_BG
    | EA_INODE
    | CSUM_SEED
    | LARGEDIR
    | INLINE_DATA
    | ENCRYPT
    | CASEFOLD;

/// The three words of feature bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// May be ignored by whoever does not know them.
    pub compat: u32,
    /// Must be known to read.
    pub incompat: u32,
    /// Must be known to write.
    pub ro_compat: u32,
}

impl Features {
    /// Whether the compatible feature `bit` is in use.
    #[must_use]
    pub fn compat(&self, bit: u32) -> bool {
        self.compat & bit != 0
    }

    /// Whether the incompatible feature `bit` is in use.
    #[must_use]
    pub fn incompat(&self, bit: u32) -> bool {
        self.incompat & bit != 0
    }

    /// Whether the read-only compatible feature `bit` is in use.
    #[must_use]
    pub fn ro_compat(&self, bit: u32) -> bool {
        self.ro_compat & bit != 0
    }

    /// Whether group descriptors have checksums, so that unused tables may be uninitialised.
    #[must_use]
    pub fn group_checksums(&self) -> bool {
        self.ro_compat(GDT_CSUM | METADATA_CSUM)
    }

    /// The names of all bits; a bit without a name as a number.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (word, names, what) in [
            (self.compat, COMPAT_NAMES, "compat"),
            (self.incompat, INCOMPAT_NAMES, "incompat"),
            (self.ro_compat, RO_COMPAT_NAMES, "ro_compat"),
        ] {
            for bit in (0..32).map(|n| 1_u32 << n).filter(|bit| word & bit != 0) {
                out.push(names.iter().find(|(known, _)| *known == bit).map_or_else(
                    || format!("{what}-{bit:#x}"),
                    |(_, name)| (*name).to_owned(),
                ));
            }
        }
        out
    }

    /// Refuses incompatible features that this reader does not know.
    ///
    /// # Errors
    /// `Unsupported`, naming them.
    pub fn check_readable(&self) -> Result<()> {
        let unknown = Self {
            compat: 0,
            incompat: self.incompat & !READ,
            ro_compat: 0,
        };
        if unknown.incompat == 0 {
            return Ok(());
        }
        let names = unknown.names().join(", ");
        Err(Error::unsupported(format!(
            "ext filesystem with the feature {names}"
        )))
    }
}
