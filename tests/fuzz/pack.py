#!/usr/bin/env python3
"""Packs the image on standard input as the targets read it: its length in sectors, then each sector that is not empty
behind its number. What is not a whole sector at its end is filled up with zeroes. Writes nothing for one of more than
256 MiB, which the targets do not read."""
import struct
import sys

SECTOR = 512
BLOCK = 1 << 20
EMPTY = bytes(BLOCK)
records = []
length = 0
while block := sys.stdin.buffer.read(BLOCK):
    if length > 256 * BLOCK:
        sys.exit(0)
    if block != EMPTY[: len(block)]:
        for at in range(0, len(block), SECTOR):
            sector = block[at : at + SECTOR]
            if sector != EMPTY[: len(sector)]:
                records.append(struct.pack("<I", (length + at) // SECTOR) + sector.ljust(SECTOR, b"\0"))
    length += len(block)
sys.stdout.buffer.write(struct.pack("<I", -(-length // SECTOR)) + b"".join(records))
