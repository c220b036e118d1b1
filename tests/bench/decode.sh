#!/usr/bin/env bash
# Sequential decoding of a whole disk on one thread: `decode` against `qemu-img convert` to nowhere, in processor time,
# the least of five runs each. Needs what images.sh needs; DORMOUSE_DECODE names the program.
#
#     cargo build --release --workspace --example decode
#     tests/bench/decode.sh GUESTS-DIR
set -euo pipefail
here=$(dirname "$(realpath "$0")")
[ "$#" -eq 1 ] || { echo "usage: ${0##*/} GUESTS-DIR" >&2; exit 2; }
decode=$(realpath "${DORMOUSE_DECODE:-$here/../../target/release/examples/decode}")
[ -x "$decode" ] || { echo "decode: build $decode first" >&2; exit 2; }
"$here/images.sh" "$1" >&2
cd "$1/formats"
size=$(stat -L -c %s server.raw)

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
for image in server.raw:raw server.qcow2:qcow2 server-zstd.qcow2:qcow2 stream.vmdk:vmdk server.vhdx:vhdx; do
    file=${image%:*} format=${image#*:}
    ours=$(least "$decode" "$file")
    theirs=$(least taskset -c 0 qemu-img convert -n -m 1 -f "$format" "$file" \
        --target-image-opts "driver=null-co,size=$size")
    awk -v file="$file" -v ours="$ours" -v theirs="$theirs" \
        'BEGIN { printf "| %s | %d | %d | %.2f |\n", file, ours, theirs, ours / theirs }'
done
