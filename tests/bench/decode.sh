#!/bin/bash
# Sequential decoding of a whole image on one thread: `decode` against `qemu-img convert` to nowhere, in processor time,
# the least of five runs each. Needs qemu-img; writes below the folder given, or a temporary one.
#
#     cargo build --release -p dormouse-disk --example decode
#     tests/bench/decode.sh RAW [FOLDER]
set -euo pipefail

raw=$(realpath "${1:?which raw disk?}")
work=${2:-$(mktemp -d)}
decode=${DORMOUSE_DECODE:-${CARGO_TARGET_DIR:-target}/release/examples/decode}
[ -x "$decode" ] || { echo "build $decode first" >&2; exit 2; }
command -v qemu-img >/dev/null || { echo "qemu-img is required" >&2; exit 2; }
decode=$(realpath "$decode")
size=$(stat -c %s "$raw")
cd "$work"

ln -sf "$raw" disk.raw
qemu-img convert -f raw -O qcow2 "$raw" disk.qcow2
qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd "$raw" zstd.qcow2
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$raw" stream.vmdk
qemu-img convert -f raw -O vhdx "$raw" disk.vhdx

# Milliseconds of processor time, the least of five.
least() {
    local best=
    for _ in 1 2 3 4 5; do
        local TIMEFORMAT='%3U %3S' spent
        spent=$( { time "$@" >/dev/null; } 2>&1 | awk '{ printf "%d", ($1 + $2) * 1000 }')
        if [ -z "$best" ] || [ "$spent" -lt "$best" ]; then best=$spent; fi
    done
    echo "$best"
}

echo "| image | decode, ms | qemu-img, ms | ratio |"
echo "|---|---|---|---|"
for image in disk.raw:raw disk.qcow2:qcow2 zstd.qcow2:qcow2 stream.vmdk:vmdk disk.vhdx:vhdx; do
    file=${image%:*} format=${image#*:}
    ours=$(least "$decode" "$file")
    theirs=$(least taskset -c 0 qemu-img convert -n -m 1 -f "$format" "$file" \
        --target-image-opts "driver=null-co,size=$size")
    awk -v file="$file" -v ours="$ours" -v theirs="$theirs" \
        'BEGIN { printf "| %s | %d | %d | %.2f |\n", file, ours, theirs, ours / theirs }'
done
