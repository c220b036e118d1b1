#!/usr/bin/env bash
# What sleeping machines cost to look at: how much is read to say that a machine of 16 GiB is suspended, and how long its
# memory is searched for the kernel that runs in it, against `grep -c` over the same file.
#
#   memory.sh
#
# Makes two states in a temporary folder: a sparse one of 16 GiB, and one of 1 GiB whose pages are all written, half of them
# text. Prints key=value lines. DORMOUSE names the program (target/release/dormouse); DORMOUSE_BENCH_RAM_MIB the second
# one's size.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
dormouse=$(realpath "${DORMOUSE:-$here/../../target/release/dormouse}")
mib=${DORMOUSE_BENCH_RAM_MIB:-1024}
for program in hyperfine jq python3; do
  command -v "$program" >/dev/null || { echo "memory: $program is missing; see guests/prerequisites.sh" >&2; exit 2; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A stream of QEMU by its own documentation: one block of memory; pages of random bytes and of text in turn.
python3 - "$scratch" "$mib" <<'END'
import os, random, struct, sys

folder, mib = sys.argv[1], int(sys.argv[2])
text = b"Linux version 6.1.0-9-amd64 (debian-kernel@lists.debian.org) (gcc-12 12.2.0) #1 SMP Debian 6.1.27-1 (2023-05-08)"
words = b"linux vermin overturned a version of Linux, for the sake of argument; lines of a log are much like this one.\n"


def stream(name, size, pages):
    with open(os.path.join(folder, name), "wb") as out:
        out.write(b"QEVM" + struct.pack(">IBIB", 3, 1, 2, 3) + b"ram" + struct.pack(">II", 0, 4))
        out.write(struct.pack(">Q", size | 4) + b"\x06pc.ram" + struct.pack(">QQ", size, 0x10))
        out.write(struct.pack(">BI", 3, 2))
        for number, page in enumerate(pages):
            first = number == 0
            out.write(struct.pack(">Q", number * 4096 | 8 | (0 if first else 0x20)))
            out.write((b"\x06pc.ram" if first else b"") + page)
        out.write(struct.pack(">Q", 0x10) + b"\0")


def pages(count):
    random.seed(1)
    noise = [random.randbytes(4096) for _ in range(64)]
    prose = [(words * 40)[n : n + 4096] for n in range(64)]
    for number in range(count):
        page = noise[number % 64] if number % 2 else prose[number // 2 % 64]
        if number == count // 3:
            page = b"\0" * 100 + text + b"\n\0" + page[:3000]
            page = page + b"\0" * (4096 - len(page))
        elif number == count // 2:
            page = b"\0" * 100 + text + text[-2:] + b"\n\0" + page[:3000]
            page = page + b"\0" * (4096 - len(page))
        yield page


stream("full.state", mib << 20, pages(mib << 8))
# What libvirt saved of a machine of 16 GiB, its disk beside it, so that its inventory can be asked for.
with open(os.path.join(folder, "disk.raw"), "wb") as out:
    out.truncate(8 << 20)
xml = b"<domain><name>large</name><devices><disk type='file' device='disk'><driver type='raw'/><source file='disk.raw'/><target dev='vda'/></disk></devices></domain>\0"
with open(os.path.join(folder, "finished.state"), "wb") as out:
    out.write(b"LibvirtQemudSave" + struct.pack("<IIIII", 2, len(xml), 1, 0, 0) + b"\0" * 56 + xml)
    out.write(b"QEVM" + struct.pack(">I", 3))
    out.truncate(16 << 30)
END

# bytes_read COMMAND...: the bytes that it asks the host for, its own program's and libraries' included.
bytes_read() {
  python3 - "$@" <<'END'
import os, subprocess, sys

child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
with open(f"/proc/{child.pid}/io") as io:
    print(next(line.split()[1] for line in io if line.startswith("rchar")))
child.wait()
END
}

# The inventory of a suspended machine looks at no memory: what is left is deciding the power state.
echo "power_bytes=$(bytes_read "$dormouse" inventory "$scratch/finished.state" --format json --no-progress)"
echo "power_file_bytes=$(stat -c %s "$scratch/finished.state")"

# The search must have found what it is timed for.
release=$("$dormouse" inspect "$scratch/full.state" --format json --no-progress 2>/dev/null |
  jq -r '.machines[0].points[0].memory.kernel.release' || true)
[ "$release" = 6.1.0-9-amd64 ] || { echo "memory: the kernel was not found ($release)" >&2; exit 1; }
# Into /dev/null, grep would stop at its first match, after a third of the file.
hyperfine --shell=none --output pipe --warmup 2 --runs 7 --ignore-failure --style none --export-json "$scratch/times.json" \
  --command-name grep "grep -c 'Linux version' $scratch/full.state" \
  --command-name dormouse "$dormouse inspect $scratch/full.state --format json --no-progress" >/dev/null 2>&1
jq -r '(.results | map({ (.command): .median }) | add) as $m |
  "grep_seconds=\($m.grep)", "dormouse_seconds=\($m.dormouse)", "ratio=\($m.dormouse / $m.grep)"' "$scratch/times.json"
echo "memory_mib=$mib"
