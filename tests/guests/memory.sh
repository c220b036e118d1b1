#!/usr/bin/env bash
# Real kernels in saved memory: boots one under software emulation until it finds no root to mount, saves the machine in
# every form that QEMU has, and asks `dormouse inspect` which kernel runs there and when it was started. The oracle is the
# kernel itself, whose first line on the serial console is its banner, and which says there when it set its clock.
#
#   memory.sh DORMOUSE [KERNEL-IMAGE]
#
# KERNEL-IMAGE is the newest /boot/vmlinuz-* unless given. Prints key=value lines; ends with 0 when all forms name the
# kernel and its start. Needs no root. Half a minute.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/emulator.sh
. "$here/parts/emulator.sh"
if [ "$#" -lt 1 ] || [ "$#" -gt 2 ]; then
  echo "usage: ${0##*/} DORMOUSE [KERNEL-IMAGE]" >&2
  exit 2
fi
dormouse=$(realpath "$1")
kernel=${2:-$(find /boot -maxdepth 1 -name 'vmlinuz-*' | sort -V | tail -1)}
[ -r "$kernel" ] || { echo "memory: no kernel to boot; see prerequisites.sh" >&2; exit 2; }
for program in qemu-system-x86_64 qemu-img jq gzip lzop; do
  command -v "$program" >/dev/null || { echo "memory: $program is missing; see prerequisites.sh" >&2; exit 2; }
done
scratch=$(mktemp -d)
emulator=
trap '[ -z "$emulator" ] || stop_emulator; rm -rf "$scratch"' EXIT

# save NAME COMMAND...: a machine with the kernel, once the kernel gave up; then what its monitor is told.
save() {
  local name=$1
  shift
  qemu-img create -q -f qcow2 "$scratch/$name.qcow2" 8M
  start_emulator 256 -kernel "$kernel" -append 'console=ttyS0 panic=0 loglevel=7' \
    -drive "file=$scratch/$name.qcow2,format=qcow2,if=virtio"
  await_console 'Kernel panic' 240
  for command in "$@" quit; do monitor "$command"; done
  wait "$emulator"
  cp "$console" "$scratch/$name.console"
  stop_emulator
  emulator=
}
save plain stop 'savevm asleep' "dump-guest-memory \"$scratch/core\"" "migrate \"file:$scratch/stream\""
# While it runs: what changes is sent again.
save mapped 'migrate_set_capability mapped-ram on' "migrate \"file:$scratch/mapped\""
gzip -1c "$scratch/stream" >"$scratch/stream.gz"
lzop -1c "$scratch/stream" >"$scratch/stream.lzo"

# What the kernel itself said first.
banner=$(tr -d '\r' <"$scratch/plain.console" | sed -n 's/^.*\[ *[0-9.]*\] \(Linux version .*\)$/\1/p' | head -1)
release=$(printf '%s\n' "$banner" | cut -d' ' -f3)
build=$(printf '%s\n' "$banner" | sed 's/^[^#]*//')
printf 'release=%s\nbuild=%s\n' "$release" "$build"
# started NAME: when that machine's kernel set its clock.
started() {
  tr -d '\r' <"$scratch/$1.console" |
    sed -n 's/^.*: setting system clock to \([0-9-]*\)[T ]\([0-9:]*\) UTC ([0-9]*)$/\1T\2Z/p' | head -1
}
plain=$(started plain)
mapped=$(started mapped)
printf 'started=%s\n' "$plain"
if [ -z "$release" ] || [ -z "$plain" ] || [ -z "$mapped" ]; then
  echo "memory: the console does not say which kernel it is, or when that set its clock" >&2
  exit 1
fi
status=0
# check FORM STARTED FILE [OPTION...]
check() {
  local form=$1 started=$2 file=$3 said
  shift 3
  said=$("$dormouse" inspect "$file" --format json --no-progress "$@" 2>/dev/null |
    jq -r '.machines[0].points[0] | "\(.memory.kernel.release) \(.memory.kernel.build) \(.memory.started)"' || true)
  if [ "$said" = "$release $build $started" ]; then
    printf '%s=same\n' "$form"
  else
    printf '%s=%s\n' "$form" "$said"
    status=1
  fi
}
check stream "$plain" "$scratch/stream"
check mapped "$mapped" "$scratch/mapped"
check gzip "$plain" "$scratch/stream.gz"
check lzop "$plain" "$scratch/stream.lzo"
check core "$plain" "$scratch/core"
check qcow2 "$plain" "$scratch/plain.qcow2" --point asleep
exit "$status"
