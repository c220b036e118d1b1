#!/usr/bin/env bash
# Every benchmark in one run, and the table that it gives: tests/bench/RESULTS.md is what this command printed.
#
#   all.sh GUESTS-DIR
#
# Needs what prepare.sh needs, and no other work on the machine.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
[ "$#" -eq 1 ] || { echo "usage: ${0##*/} GUESTS-DIR" >&2; exit 2; }
"$here/prepare.sh" "$1" >&2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$here/formats.sh" "$1" "$scratch" >"$scratch/formats"
"$here/decode.sh" "$1" >"$scratch/decode"
"$here/patch.sh" "$1" "$scratch" >"$scratch/patch"
"$here/virt.sh" "$1" >"$scratch/virt"
"$here/memory.sh" >"$scratch/memory"
"${DORMOUSE_JUDGE:-$here/../../target/release/examples/judge}" 100000 1024 >"$scratch/judge"
"$here/many.sh" "$1" "${DORMOUSE_BENCH_MACHINES:-100}" >"$scratch/many"
value() { sed -n "s/^$2=//p" "$scratch/$1" | tail -1; }
{
  cat <<END
# Results

What \`make bench\` printed on $(date -u +%Y-%m-%d): $(nproc) processors, software emulation only, page cache warm, medians of one run.
Ratios are Dormouse's time divided by the peer's on the same files; seconds only tell how far apart they are.

## List the packages of one image

Debian 12 server, 440 packages, 4 GiB disk with GPT, an EFI partition and ext4, in each disk format, and the same files on
other filesystems. The peers are root's own way, qemu-storage-daemon FUSE export, loop mount, \`dpkg-query -W\`, unmount, undo
(\`tests/guests/root-inventory.sh\`), and dissect.target (\`target-query -f dpkg.status\`) with what it lists. Dormouse lists what
dpkg-query lists, package by package, or the benchmark fails.

| image | root, s | dissect.target, s | its packages | dormouse, s | / root, wanted at most 0.25 | / dissect.target, wanted at most 0.01 | dormouse's peak memory, MiB |
|---|---|---|---|---|---|---|---|
END
  awk -F '\t' '{ printf "| %s | %.4f | %.2f | %d | %.4f | %.3f | %.4f | %.1f |\n", $1, $2, $3, $6, $4, $4 / $2, $4 / $3, $7 / 1024 }' \
    "$scratch/formats"
  cat <<END

## Read a whole disk, on one thread

The peer is \`qemu-img convert\` to a null target; processor time, the least of five (\`tests/bench/decode.sh\`). Wanted: at most 1.

END
  cat "$scratch/decode"
  cat <<END

## Install $(value patch packages) pending updates

The peer is \`dpkg -i\` of the same packages in a chroot on the mounted image, maintainer scripts included
(\`tests/guests/chroot-dpkg.sh\`); Dormouse verifies, resolves, unpacks, configures
$(value patch configured) of them, and reads everything back. "Unpacking" is the decompression of all data archives on all
processors, to nothing.

| | peer | dormouse | ratio | wanted at most |
|---|---|---|---|---|
END
  awk -F = '
    { value[$1] = $2 }
    END {
      printf "| seconds, dpkg | %.2f | %.2f | %.3f | 0.15 |\n", value["dpkg_seconds"], value["dormouse_seconds"], value["ratio"]
      printf "| seconds, dpkg; the mirror\047s index known from an earlier run | %.2f | %.2f | %.3f | 0.15 |\n", value["dpkg_seconds"], value["known_seconds"], value["known_ratio"]
      printf "| seconds, virt-customize (one run) | %.1f | %.2f | %.4f | 0.015 |\n", value["virt_seconds"], value["dormouse_seconds"], value["dormouse_seconds"] / value["virt_seconds"]
      printf "| seconds, unpacking | %.2f | %.2f | %.2f | 1.5 |\n", value["decompress_seconds"], value["dormouse_seconds"], value["decompress_ratio"]
      printf "| seconds, unpacking; index known | %.2f | %.2f | %.2f | 1.5 |\n", value["decompress_seconds"], value["known_seconds"], value["known_decompress_ratio"]
      printf "| MiB written | %.1f | %.1f | | |\n", value["dpkg_bytes"] / 1048576, value["dormouse_bytes"] / 1048576
      printf "| written / unpacked payload (%.1f MiB) | | %.3f | | 1.3 |\n", value["payload_bytes"] / 1048576, value["written_ratio"]
    }' "$scratch/patch" "$scratch/virt"
  cat <<END

## The same updates in $(value many machines) machines

\`dormouse run\` up to verification (\`tests/bench/many.sh\`): what each machine takes after the first, against dpkg's time
for one, and against \`cp\` and \`sync\` of the images written.

| | peer | dormouse, each | ratio | wanted at most |
|---|---|---|---|---|
END
  awk -F = '
    { value[$1] = $2 }
    END {
      printf "| seconds, dpkg | %.2f | %.2f | %.3f | 0.05 |\n", value["dpkg_seconds"], value["each_seconds"], value["each_seconds"] / value["dpkg_seconds"]
      printf "| seconds, cp of %.0f MiB | %.2f | %.2f | %.2f | 2 |\n", value["bytes_each"] / 1048576, value["cp_seconds_each"], value["each_seconds"], value["each_seconds"] / value["cp_seconds_each"]
    }' "$scratch/patch" "$scratch/many"
  cat <<END

## Look at sleeping machines

Saved states that \`tests/bench/memory.sh\` makes: what is read to say that a machine of 16 GiB is suspended, and the search
of $(value memory memory_mib) MiB of saved memory for the kernel that runs in it.

| | peer | dormouse | ratio | wanted at most |
|---|---|---|---|---|
END
  awk -F = '
    { value[$1] = $2 }
    END {
      printf "| MiB read for the power state, program included | | %.2f | | 4 |\n", value["power_bytes"] / 1048576
      printf "| seconds, grep -c | %.3f | %.3f | %.2f | 1 |\n", value["grep_seconds"], value["dormouse_seconds"], value["ratio"]
    }' "$scratch/memory"
  cat <<END

## Judge by advisories

$(value judge advisories) advisories of $(value judge feed_mib) MiB in all (\`baselines/advisories/examples/judge.rs\`): compiled once, then $(value judge packages) packages
judged against $(value judge statements) statements.

| | dormouse | wanted at most |
|---|---|---|
| milliseconds, judging | $(value judge judge_ms) | 5 |
| MiB of memory, compiling | $(( $(value judge compile_peak_kib) / 1024 )) | 256 |
| seconds, compiling | $(value judge compile_seconds) | |
| seconds, opening what was compiled, the feed's digest included | $(value judge open_seconds) | |
END
} >"$scratch/RESULTS.md"
cp "$scratch/RESULTS.md" "$here/RESULTS.md"
cat "$here/RESULTS.md"
