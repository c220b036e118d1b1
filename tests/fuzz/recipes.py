#!/usr/bin/env python3
"""Writes the inputs of TARGET that no program makes into FOLDER, some from FILEs.

    recipes.py TARGET FOLDER [FILE...]
"""
import struct
import sys
from pathlib import Path


def md():
    """Superblocks of the two members of an array of each level, of version 1 and of 0.90."""
    for level in (0xFFFFFFFF, 0, 1, 4, 5, 6, 10):
        layout = 0x102 if level == 10 else 2 if level in (5, 6) else 0
        block = bytearray(288)
        struct.pack_into("<II", block, 8, 0x1000 if level == 0 else 0, 0)
        block[16:32] = b"set of the array"
        block[32:40] = b"host:one"
        struct.pack_into("<IIQII", block, 72, level, layout or int(level == 0), 448, 8, 2)
        struct.pack_into("<QQ", block, 128, 32, 448)
        struct.pack_into("<Q", block, 200, 7)
        struct.pack_into("<Q", block, 208, 0xFFFFFFFFFFFFFFFF)
        struct.pack_into("<2H", block, 256, 0, 1)
        # Its first byte tells the target the version, and is then overwritten.
        yield bytes(block) * 2
        legacy = []
        for number in (0, 1):
            words = [0] * 1024
            # Magic, 0.90, then: the set, the level, the size in KiB, members, the rest of the set.
            words[0:14] = [1, 0, 90, 0, 0, 0x11111111, 1, level, 192, 2, 2, 0, 0, 0x22222222]
            words[14:16] = [0x33333333, 0x44444444]
            # State, members by state, events.
            words[32:42] = [0, 1, 2, 2, 0, 0, 0, 7, 0, 7]
            # Layout and bytes of a chunk.
            words[64:66] = [layout, 4096]
            for disk in (0, 1, 31):
                which = number if disk == 31 else disk
                at = 992 if disk == 31 else 128 + 32 * disk
                words[at : at + 5] = [which, 8, which, which, 6]
            legacy.append(struct.pack("<1024I", *words))
        yield b"".join(legacy)


def lvm():
    """Texts of a group with one logical volume of each kind on one physical volume, and what their extents hold."""
    linear = 'extent_count = 2\ntype = "striped"\nstripe_count = 1\nstripes = ["pv0", %d]'
    part = {f"part{number}": linear % (2 * number) for number in range(6)}
    raid = 'extent_count = 2\ntype = "%s"\ndevice_count = %d\nstripe_count = %d\nregion_size = 1024\nstripe_size = 8\nraids = [%s]'
    kinds = {
        "linear": linear % 0,
        "striped": 'extent_count = 2\ntype = "striped"\nstripe_count = 2\nstripe_size = 8\nstripes = ["pv0", 0, "pv0", 1]',
        "mirror": 'extent_count = 2\ntype = "mirror"\nmirror_count = 2\nregion_size = 1024\nmirrors = ["part0", 0, "part1", 0]',
        "zero": 'extent_count = 2\ntype = "zero"',
        "error": 'extent_count = 2\ntype = "error"',
        "snapshot": 'extent_count = 2\ntype = "snapshot"\nchunk_size = 8\norigin = "part1"\ncow_store = "part0"',
        "pool": 'extent_count = 2\ntype = "thin-pool"\nmetadata = "part0"\npool = "part1"\nchunk_size = 128\ntransaction_id = 1',
        "thin": 'extent_count = 2\ntype = "thin"\nthin_pool = "pool"\ntransaction_id = 0\ndevice_id = 1',
        "cache": 'extent_count = 2\ntype = "cache"\ncache_pool = "part0"\norigin = "part1"',
    }
    for kind, count in (("raid0", 2), ("raid1", 2), ("raid4", 3), ("raid5_ls", 3), ("raid6_zr", 5), ("raid10", 4)):
        names = ", ".join(f'"part{number}", "part{number}"' for number in range(count))
        kinds[kind] = raid % (kind, count, count, names)
    # A snapshot's store: magic, valid, version, sectors of a chunk; then its exceptions.
    store = struct.pack("<4I", 0x70416E53, 1, 1, 8).ljust(4096, b"\0") + struct.pack("<4Q", 1, 2, 3, 3).ljust(4096, b"\0")
    for kind, segment in kinds.items():
        every = part | ({"pool": kinds["pool"]} if kind == "thin" else {}) | {kind: segment}
        volumes = "\n".join(
            f'{name} {{\nid = "x"\nstatus = ["READ", "WRITE", "VISIBLE"]\nsegment_count = 1\nsegment1 {{\nstart_extent = 0\n{text}\n}}\n}}'
            for name, text in every.items()
        )
        yield (
            f'vg {{\nid = "g"\nseqno = 1\nformat = "lvm2"\nstatus = ["RESIZEABLE"]\nextent_size = 128\n'
            f'physical_volumes {{\npv0 {{\nid = "{"a" * 32}"\npe_start = 256\npe_count = 14\n}}\n}}\n'
            f"logical_volumes {{\n{volumes}\n}}\n}}\n# end\n"
        ).encode() + b"\0" + store


def saved_states():
    """Memory as QEMU sends it, behind libvirt's header too, and the heads of other hypervisors' states."""
    page = b"page " * 819 + b"!"
    stream = (
        b"QEVM" + struct.pack(">IBI", 3, 1, 7) + b"\3ram" + struct.pack(">IIQ", 0, 4, 65536 | 4) + b"\1r" + struct.pack(">QQ", 65536, 0x10)
        + struct.pack(">BI", 3, 7)
        + struct.pack(">Q", 0x1000 | 8) + b"\1r" + page
        + struct.pack(">Q", 0x2000 | 8 | 0x20) + page
        + struct.pack(">Q", 0x3000 | 2 | 0x20) + b"\5"
        + struct.pack(">Q", 0x4000 | 8 | 0x20) + b"Linux version 6.1.0-1-amd64 (who@where) (gcc) #1 SMP Debian 6.1.1-1\n".ljust(4096, b"\0")
        + struct.pack(">Q", 0x10)
    )
    yield stream
    for magic, packing in ((b"LibvirtQemudSave", 0), (b"LibvirtQemudPart", 0), (b"LibvirtQemudSave", 1)):
        yield (magic + struct.pack("<5I", 2, 20, 1, packing, 0)).ljust(92, b"\0") + b"<domain>x</domain>\0\0" + stream
    # VMware: one group with its memory in it.
    entry = b"memory".ljust(64, b"\0") + struct.pack("<QQ", 200, 0)
    yield (
        (b"\xd2\xbe\xd2\xbe" + struct.pack("<II", 8, 1) + entry).ljust(200, b"\0")
        + b"\x44\4size" + bytes(8)
        + b"\x3f\6Memory" + struct.pack("<QQH", 8192, 8192, 3) + b"\t\t\t" + page + page + b"\0\0"
    )
    yield b"\x7fVirtualBox SavedState V2.0\n".ljust(512, b"\0")
    yield b"\x14\x20\x28\x01".ljust(64, b"\0") + b"/savedstate/x".ljust(512, b"\0")
    yield struct.pack("<Q", 0x0710_1984_8664_0003).ljust(512, b"\0")
    yield b'{"snapshots":{}}'
    yield b"KDUMP   ".ljust(512, b"\0")


def rpm_header(*files):
    """The headers of packages, as databases hold them."""
    for file in files:
        rpm = Path(file).read_bytes()
        # Behind the lead and the signatures, which are filled up to eight bytes.
        at = 96
        count, length = struct.unpack_from(">II", rpm, at + 8)
        at += (16 + 16 * count + length + 7) // 8 * 8
        count, length = struct.unpack_from(">II", rpm, at + 8)
        yield rpm[at + 8 : at + 16 + 16 * count + length]


recipes = {"md": md, "lvm": lvm, "saved_states": saved_states, "rpm_header": rpm_header}
target, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for number, content in enumerate(recipes[target](*sys.argv[3:])):
    (folder / f"{target}-{number}").write_bytes(content)
