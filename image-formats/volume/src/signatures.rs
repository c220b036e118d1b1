//! Signatures of filesystems, RAID members, volume managers, encryption and swap, as their own definitions and
//! libblkid's documentation give them. Order matters where one layout contains another's magic: what marks a member
//! of something larger comes before the filesystem that shines through.

use crate::identify::Peek;

/// What kind of thing carries a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// A filesystem that can hold a system.
    Files,
    /// A part of something larger, in which a filesystem may be.
    Layer,
    /// Swap space, journals, filesystems without owners and links: no installed packages.
    Other,
    /// The memory of a suspended system.
    Hibernation,
}

/// A known layout.
pub(crate) struct Signature {
    pub(crate) kind: &'static str,
    pub(crate) usage: Usage,
    pub(crate) matches: fn(&mut Peek<'_>) -> bool,
}

macro_rules! signatures {
    ($($kind:literal $usage:ident $matches:expr;)*) => {
        &[$(Signature { kind: $kind, usage: Usage::$usage, matches: $matches }),*]
    };
}

/// Swap signatures stand at the end of the first page, whatever the machine's page size.
const PAGE_ENDS: [u64; 5] = [0xff6, 0x1ff6, 0x3ff6, 0x7ff6, 0xfff6];

fn at_page_end(peek: &mut Peek<'_>, magics: &[&[u8]]) -> bool {
    PAGE_ENDS
        .iter()
        .any(|end| magics.iter().any(|magic| peek.is(*end, magic)))
}

/// What stands in swap space that holds a suspended system: of the kernel, of uswsusp, and of a version not yet used.
const SLEEPERS: [&[u8]; 5] = [
    b"S1SUSPEND",
    b"S2SUSPEND",
    b"ULSUSPEND",
    b"LINHIB0001",
    TUXONICE,
];

/// Where the signature of a suspended system stands in swap space, and which it is.
pub(crate) fn sleeper(peek: &mut Peek<'_>) -> Option<(u64, &'static [u8])> {
    PAGE_ENDS.iter().find_map(|end| {
        let mut magics = SLEEPERS.iter();
        let magic = magics.find(|magic| peek.is(*end, magic))?;
        Some((*end, *magic))
    })
}

/// Every signature, in the order of asking.
pub(crate) static SIGNATURES: &[Signature] = signatures! {
    // RAID metadata in front: 1.1 at byte 0, 1.2 at byte 4096.
    "linux_raid_member" Layer |p| md_raid(p);
    // Its superblock says that it lies in sector 8; bcachefs began with the same magic.
    "bcache" Layer |p| p.is(0x1018, BCACHE) && p.is(0x1008, &8_u64.to_le_bytes());
    "drbd" Layer |p| drbd(p);
    "drbdmanage_control_volume" Layer |p| p.is(0, b"$DRBDmgr=q");
    "LVM2_member" Layer |p| (0..4).any(|n: u64| p.is(n.saturating_mul(512), b"LABELONE") && p.is(n.saturating_mul(512).saturating_add(24), b"LVM2 001"));
    "LVM1_member" Layer |p| p.is(0, b"HM\x01\0") || p.is(0, b"HM\x02\0");
    "crypto_LUKS" Layer |p| p.is(0, b"LUKS\xba\xbe") || p.is(0x4000, b"SKUL\xba\xbe");
    "cs_fvault2" Layer |p| p.is(88, b"CS\x01\0") && p.is(8, b"\x01\0");
    "BitLocker" Layer |p| p.is(3, b"-FVE-FS-") || (p.is(3, b"MSWIN4.1") && p.is(424, b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a"));
    "vdo" Layer |p| p.is(0, b"dmvdo001");
    "stratis" Layer |p| p.is(516, b"!Stra0tis\x86\xff\x02^\x41rh");
    "mpool" Layer |p| p.is(0, b"mpoolDev");
    "ceph_bluestore" Layer |p| p.is(0, b"bluestore block device");
    "VMFS_volume_member" Layer |p| p.is(0x10_0000, b"\x0d\xd0\x01\xc0");
    "ubi" Layer |p| p.is(0, b"UBI#");
    "swsuspend" Hibernation |p| sleeper(p).is_some() || p.is(0, TUXONICE);
    "swap" Other |p| at_page_end(p, &[b"SWAP-SPACE", b"SWAPSPACE2"]);
    "xfs" Files |p| p.is(0, b"XFSB");
    "xfs_external_log" Other |p| xfs_log(p);
    "btrfs" Files |p| p.is(0x10040, b"_BHRfS_M");
    "jbd" Other |p| p.is(0x438, b"\x53\xef") && ext_features(p).is_some_and(|(_, incompat, _)| incompat & JOURNAL_DEVICE != 0);
    "ext4" Files |p| ext(p) == Some(4);
    "ext3" Files |p| ext(p) == Some(3);
    "ext2" Files |p| ext(p) == Some(2);
    "zfs_member" Layer |p| zfs(p);
    "apfs" Files |p| p.is(32, b"NXSB");
    "bcachefs" Files |p| p.is(0x1018, BCACHE) || p.is(0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef");
    "f2fs" Files |p| p.is(1024, b"\x10\x20\xf5\xf2");
    "erofs" Files |p| p.is(1024, b"\xe2\xe1\xf5\xe0");
    "nilfs2" Files |p| p.is(1030, b"\x34\x34");
    "jfs" Files |p| p.is(0x8000, b"JFS1");
    "reiserfs" Files |p| [0x2034, 0x10034].iter().any(|at| p.is(*at, b"ReIsErFs") || p.is(*at, b"ReIsEr2Fs") || p.is(*at, b"ReIsEr3Fs")) || p.is(0x2014, b"ReIsErFs");
    "reiser4" Files |p| p.is(0x10000, b"ReIsEr4");
    "gfs2" Files |p| p.is(0x10000, b"\x01\x16\x19\x70");
    "ocfs2" Files |p| [1024, 2048, 4096, 8192].iter().any(|at| p.is(*at, b"OCFSV2"));
    "VMFS" Files |p| p.is(0x20_0000, b"\x5e\xf1\xab\x2f");
    "ubifs" Files |p| p.is(0, b"\x31\x18\x10\x06");
    "zonefs" Other |p| p.is(0, b"SFOZ");
    "ntfs" Files |p| p.is(3, b"NTFS    ");
    "exfat" Other |p| p.is(3, b"EXFAT   ");
    "hpfs" Files |p| p.is(0x2000, b"\x49\xe8\x95\xf9");
    "nss" Files |p| p.is(0x1000, b"SPB5");
    "squashfs" Files |p| squashfs(p, 4);
    "squashfs3" Files |p| squashfs(p, 3);
    "cramfs" Files |p| p.is(0, b"\x45\x3d\xcd\x28") || p.is(0, b"\x28\xcd\x3d\x45");
    "romfs" Files |p| p.is(0, b"-rom1fs-");
    "bfs" Files |p| p.is(0, b"\xce\xfa\xad\x1b");
    "befs" Files |p| p.is(544, b"BFS1") || p.is(544, b"1SFB") || p.is(0x220, b"BFS1");
    "vxfs" Files |p| p.is(1024, b"\xf5\xfc\x01\xa5") || p.is(8192, b"\xa5\x01\xfc\xf5");
    "scoutfs_meta" Files |p| p.is(0x1_0004, SCOUTFS) && p.is(0x1_0030, &[1]);
    "scoutfs_data" Files |p| p.is(0x1_0004, SCOUTFS) && p.is(0x1_0030, &[0]);
    "udf" Files |p| udf(p);
    "iso9660" Files |p| p.is(32769, b"CD001") || p.is(32777, b"CDROM");
    "ufs" Files |p| UFS.iter().any(|at| p.is(*at, b"\x54\x19\x01\0") || p.is(*at, b"\x19\x01\x54\x19") || p.is(*at, b"\0\x01\x19\x54") || p.is(*at, b"\x19\x54\x01\x19"));
    "hfsplus" Files |p| p.is(1024, b"H+") || p.is(1024, b"HX") || (p.is(1024, b"BD") && p.is(1148, b"H+"));
    "hfs" Files |p| p.is(1024, b"BD");
    "vfat" Other |p| fat(p);
    "minix" Files |p| minix(p);
    // Firmware RAID, which machines in images hardly have: a few bytes at the end of a disk, so they are asked about last.
    "ddf_raid_member" Layer |p| p.ends(512, b"\x11\xde\x11\xde") || p.ends(512, b"\xde\x11\xde\x11");
    "isw_raid_member" Layer |p| p.ends(1024, b"Intel Raid ISM Cfg Sig. ");
    "nvidia_raid_member" Layer |p| p.ends(1024, b"NVIDIA");
    "silicon_medley_raid_member" Layer |p| p.len() > 512 && silicon(p);
    "hpt37x_raid_member" Layer |p| p.is(9 * 512 + 32, b"\xf0\x16\x78\x5a") || p.is(9 * 512 + 32, b"\xfd\x16\x78\x5a");
    "hpt45x_raid_member" Layer |p| p.ends(11 * 512, b"\xf3\x16\x78\x5a") || p.ends(11 * 512, b"\xfd\x16\x78\x5a");
    "lsi_mega_raid_member" Layer |p| p.ends(512, b"$XIDE$");
    "jmicron_raid_member" Layer |p| p.ends(512, b"JM") && jmicron_checksum(p);
    "adaptec_raid_member" Layer |p| p.ends(512, b"\x37\xfc\x4d\x1e") || p.ends(512, b"DPTM");
    "promise_fasttrack_raid_member" Layer |p| promise(p);
    "via_raid_member" Layer |p| p.ends(512, b"\x55\xaa") && via_checksum(p);
};

const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const TUXONICE: &[u8] = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c";
/// `SCOUTFS_SUPER_MAGIC`; the lowest flag tells the device of metadata.
const SCOUTFS: &[u8] = b"\x8b\x42\x3c\x10";
/// `EXT3_FEATURE_INCOMPAT_JOURNAL_DEV`.
const JOURNAL_DEVICE: u32 = 8;
/// The magic of UFS lies 0x55c into its superblock, which begins at one of these.
const UFS: [u64; 4] = [0x55c, 0x255c, 0x1_055c, 0x4_055c];

/// MD superblocks: version 1 at 0, 4096, or 8 KiB before the end (down to 4 KiB); version 0.90 in the last whole 64 KiB.
fn md_raid(p: &mut Peek<'_>) -> bool {
    const MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";
    let version_1 =
        |p: &mut Peek<'_>, at: u64| p.is(at, MAGIC) && p.u32(at.saturating_add(4)) == Some(1);
    if version_1(p, 0) || version_1(p, 4096) {
        return true;
    }
    let tail = |p: &Peek<'_>, back: u64, align: u64| {
        p.len()
            .checked_sub(back)
            .map(|at| at.saturating_sub(at.checked_rem(align).unwrap_or(0)))
    };
    if let Some(at) = tail(p, 8192, 4096)
        && version_1(p, at)
    {
        return true;
    }
    tail(p, 65536, 65536).is_some_and(|at| p.is(at, MAGIC) || p.is(at, b"\xa9\x2b\x4e\xfc"))
}

fn silicon(p: &mut Peek<'_>) -> bool {
    // The metadata block is the last sector; its magic lies at 0x60 and it names itself by two version numbers.
    p.len()
        .checked_sub(512)
        .is_some_and(|at| p.is(at.saturating_add(0x60), b"\x00\x00\x00\x2f"))
}

fn promise(p: &mut Peek<'_>) -> bool {
    [
        63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991, 951, 3087,
    ]
    .iter()
    .any(|sectors: &u64| p.ends(sectors.saturating_mul(512), b"Promise Technology, Inc."))
}

/// The last of the first 51 bytes is their sum.
fn via_checksum(p: &mut Peek<'_>) -> bool {
    let Some(bytes) = p.len().checked_sub(512).and_then(|at| p.bytes(at, 51)) else {
        return false;
    };
    let Some((sum, rest)) = bytes.split_last() else {
        return false;
    };
    *sum == rest.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte))
}

/// The 64 little-endian words of the structure add up to nothing, or to one.
fn jmicron_checksum(p: &mut Peek<'_>) -> bool {
    let Some(bytes) = p.len().checked_sub(512).and_then(|at| p.bytes(at, 128)) else {
        return false;
    };
    let words = bytes.as_chunks::<2>().0.iter();
    let sum = words.fold(0_u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes(*word))
    });
    sum <= 1
}

/// DRBD's internal metadata: 8.x at 4 KiB before the end, its magic 0x3c bytes in.
fn drbd(p: &mut Peek<'_>) -> bool {
    p.len().checked_sub(4096).is_some_and(|at| {
        p.is(at.saturating_add(0x3c), b"\x83\x74\x02\x6b")
            || p.is(at.saturating_add(0x3c), b"\x83\x74\x02\x6c")
            || p.is(at.saturating_add(0x40), b"\x83\x74\x02\x6d")
            || p.is(at.saturating_add(0x3c), b"\x83\x74\x02\x6d")
    })
}

/// A record header of the log: magic, cycle, version 1 or 2.
fn xfs_log(p: &mut Peek<'_>) -> bool {
    p.ahead(0, 512 * 512);
    (0..512_u64).any(|sector| {
        let at = sector.saturating_mul(512);
        p.is(at, b"\xfe\xed\xba\xbe")
            && (p.is(at.saturating_add(8), b"\0\0\0\x01")
                || p.is(at.saturating_add(8), b"\0\0\0\x02"))
    })
}

/// Compatible, incompatible and read-only compatible features.
fn ext_features(p: &mut Peek<'_>) -> Option<(u32, u32, u32)> {
    Some((
        p.u32(1024 + 0x5c)?,
        p.u32(1024 + 0x60)?,
        p.u32(1024 + 0x64)?,
    ))
}

/// 2, 3 or 4, told apart by features as libblkid does: what ext3 does not have is ext4, what has a journal is ext3.
fn ext(p: &mut Peek<'_>) -> Option<u32> {
    const EXT3_INCOMPATIBLE: u32 = 0x2 | 0x4 | 0x10;
    const EXT2_3_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
    if !p.is(0x438, b"\x53\xef") {
        return None;
    }
    let (compatible, incompatible, read_only) = ext_features(p)?;
    if incompatible & JOURNAL_DEVICE != 0 {
        return None;
    }
    if incompatible & !EXT3_INCOMPATIBLE != 0 || read_only & !EXT2_3_READ_ONLY != 0 {
        return Some(4);
    }
    Some(if compatible & 4 != 0 { 3 } else { 2 })
}

/// Uberblocks fill the second half of the label at the beginning; one alone could be chance, so two are asked for.
fn zfs(p: &mut Peek<'_>) -> bool {
    p.ahead(0x2_0000, 0x4_0000);
    let found = (0..128_u64).filter(|slot| {
        let at = slot.saturating_mul(1024).saturating_add(0x2_0000);
        p.is(at, b"\x0c\xb1\xba\0\0\0\0\0") || p.is(at, b"\0\0\0\0\0\xba\xb1\x0c")
    });
    found.take(2).count() == 2
}

/// Both byte orders; the major version tells format 4 from its ancestors.
fn squashfs(p: &mut Peek<'_>, version: u8) -> bool {
    if p.is(0, b"hsqs") || p.is(0, b"hsqt") {
        let major = p.bytes(28, 1).and_then(|bytes| bytes.first().copied());
        return major.is_some_and(|major| (major >= 4) == (version == 4));
    }
    version == 3 && (p.is(0, b"sqsh") || p.is(0, b"shsq") || p.is(0, b"qshs"))
}

/// Volume structure descriptors from byte 32768 on, one of which says NSR. Their size is that of the sectors.
fn udf(p: &mut Peek<'_>) -> bool {
    p.ahead(32768, 32768 + 64 * 4096);
    [2048_u64, 4096].iter().any(|step| {
        (0..64_u64).any(|n| {
            let at = n.saturating_mul(*step).saturating_add(32769);
            p.is(at, b"NSR02") || p.is(at, b"NSR03")
        })
    })
}

/// The names that mkfs leaves, or a boot sector whose parameters make sense.
fn fat(p: &mut Peek<'_>) -> bool {
    if !p.is(510, b"\x55\xaa") && !p.is(0, b"\xeb") && !p.is(0, b"\xe9") {
        return false;
    }
    let Some(sector) = p.bytes(0, 512) else {
        return false;
    };
    let byte = |at: usize| sector.get(at).copied().unwrap_or(0);
    let word = |at: usize| u16::from_le_bytes([byte(at), byte(at.saturating_add(1))]);
    let cluster = byte(13);
    let sane = matches!(word(11), 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && word(14) != 0
        && matches!(byte(16), 1 | 2)
        && (byte(21) == 0xf0 || byte(21) >= 0xf8);
    sane && (p.is(82, b"FAT32   ")
        || p.is(54, b"FAT16   ")
        || p.is(54, b"FAT12   ")
        || p.is(54, b"FAT     ")
        || byte(0) == 0xeb
        || byte(0) == 0xe9)
}

fn minix(p: &mut Peek<'_>) -> bool {
    const MAGICS: [u16; 5] = [0x137f, 0x138f, 0x2468, 0x2478, 0x4d5a];
    [0x410, 0x418].iter().any(|at| {
        let Some(bytes) = p.bytes(*at, 2) else {
            return false;
        };
        let Ok(pair) = <[u8; 2]>::try_from(bytes) else {
            return false;
        };
        MAGICS.contains(&u16::from_le_bytes(pair)) || MAGICS.contains(&u16::from_be_bytes(pair))
    })
}
