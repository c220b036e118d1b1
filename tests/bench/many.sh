#!/usr/bin/env bash
# Many machines that need the same updates: what each costs after the first.
#
#   many.sh GUESTS-DIR [MACHINES]
#
# Makes MACHINES (a hundred) overlays on server-40.qcow2, each with bytes of its own, runs `dormouse run` up to
# verification over one and over all of them with a fresh state each time, and copies what was written with cp. Prints
# key=value lines: machines, first_seconds, all_seconds, each_seconds (after the first), bytes_each, cp_seconds_each.
# DORMOUSE names the program. Needs what prepare.sh made, and space for the results: about 160 MiB a machine.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
dormouse=$(realpath "${DORMOUSE:-$here/../../target/release/dormouse}")
if [ "$#" -lt 1 ] || [ "$#" -gt 2 ]; then
  echo "usage: ${0##*/} GUESTS-DIR [MACHINES]" >&2
  exit 2
fi
for program in qemu-img qemu-io; do
  command -v "$program" >/dev/null || { echo "many: $program is missing; see guests/prerequisites.sh" >&2; exit 2; }
done
folder=$(realpath "$1") machines=${2:-100}
scratch=$(mktemp -d "$folder/many.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/one" "$scratch/all"
for number in $(seq "$machines"); do
  image="$scratch/all/machine-$number.qcow2"
  qemu-img create -q -f qcow2 -b "$folder/server-40.qcow2" -F qcow2 "$image"
  # Between the partition table and the first partition: the machines differ, their files do not.
  qemu-io -c "write -q -P $((number % 255 + 1)) $((20480 + 512 * (number / 255))) 512" "$image"
done
mv "$scratch/all/machine-1.qcow2" "$scratch/one/"
cat >"$scratch/pipeline.toml" <<END
name = "many"
description = "Patch machines alike and verify them"
until = "verify"
baseline = "debian-security"
repositories = ["$folder/server-mirror"]
keyring = "$folder/server-mirror/keyring.gpg"
inject = "active"
END
"$dormouse" key generate "$scratch/key" >/dev/null

# patched LIBRARY: the seconds that a run over it takes; every machine must come out patched.
patched() {
  rm -rf "$scratch/results" "$scratch/state"
  local start end
  start=$(date +%s.%N)
  "$dormouse" run "$scratch/pipeline.toml" "$scratch/$1" --allow-backing "$folder" --output "$scratch/results" \
    --state "$scratch/state" --key "$scratch/key" --no-progress --quiet --format json >/dev/null || [ "$?" -eq 1 ]
  end=$(date +%s.%N)
  local made wanted
  made=$(find "$scratch/results/images" -name '*.qcow2' | wc -l)
  wanted=$(find "$scratch/$1" -name '*.qcow2' | wc -l)
  [ "$made" -eq "$wanted" ] || { echo "many: $made of $wanted machines were patched" >&2; exit 1; }
  awk "BEGIN { print $end - $start }"
}

first=$(patched one)
all=$(patched all)
rest=$((machines - 1))
bytes=$(du -s --block-size=1 "$scratch/results/images" | cut -f1)
sync
# One after the other, and each copy is dropped once it is on the disk: a hundred at a time would need twice the space.
copied=0
for image in "$scratch"/results/images/*.qcow2; do
  start=$(date +%s.%N)
  cp --sparse=never "$image" "$scratch/copy"
  sync "$scratch/copy"
  end=$(date +%s.%N)
  rm "$scratch/copy"
  copied=$(awk "BEGIN { print $copied + $end - $start }")
done
# The first one's unpacking is paid once in both runs.
awk -v first="$first" -v all="$all" -v rest="$rest" -v bytes="$bytes" -v copied="$copied" 'BEGIN {
  printf "machines=%d\nfirst_seconds=%.2f\nall_seconds=%.2f\n", rest, first, all
  printf "each_seconds=%.3f\nbytes_each=%d\ncp_seconds_each=%.3f\n", (all - first) / (rest - 1), bytes / rest, copied / rest
}'
