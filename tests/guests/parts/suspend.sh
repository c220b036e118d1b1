#!/usr/bin/env bash
# Boots a machine under software emulation and suspends it into an internal snapshot with its memory.
#
#   suspend.sh QCOW2 SNAPSHOT MEMORY-MIB [TIMEOUT-SECONDS]
set -euo pipefail
image=$1 snapshot=$2 memory=$3 timeout=${4:-300}
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/emulator.sh
. "$here/emulator.sh"

start_emulator "$memory" -drive "file=$image,format=qcow2,if=virtio"
trap stop_emulator EXIT
await_console 'login:' "$timeout"
monitor "savevm $snapshot"
monitor quit
wait "$emulator"
trap - EXIT
stop_emulator
qemu-img snapshot -l "$image" | grep -q " $snapshot "
