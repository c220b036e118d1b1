#!/usr/bin/env bash
# Boots a machine under software emulation until it asks for a login on its serial console, changing nothing: what
# it writes goes to a temporary overlay.
#
#   boot.sh IMAGE [TIMEOUT-SECONDS] [AWAITED]
#
# AWAITED is an extended regular expression that the console must show instead of "login:". Prints key=value lines
# (image, awaited, seconds) and the console's last lines; ends with 0 when the machine came up. Needs no root.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/emulator.sh
. "$here/parts/emulator.sh"

if [ "$#" -lt 1 ] || [ "$#" -gt 3 ]; then
  echo "usage: ${0##*/} IMAGE [TIMEOUT-SECONDS] [AWAITED]" >&2
  exit 2
fi
image=$(realpath "$1") timeout=${2:-300} awaited=${3:-login:}
for program in qemu-system-x86_64 qemu-img; do
  command -v "$program" >/dev/null || { echo "boot: $program is missing; see prerequisites.sh" >&2; exit 2; }
done
# A raw image's bytes may look like another format: what the file is comes from its name.
case $image in *.raw | *.img) format=raw ;; *) format=$(qemu-img info --output=json "$image" | jq -r .format) ;; esac

start_emulator 512 -snapshot -drive "file=$image,format=$format,if=virtio"
trap stop_emulator EXIT
await_console "$awaited" "$timeout"
printf 'image=%s\nawaited=%s\nseconds=%s\n' "$image" "$awaited" "$SECONDS"
tail -n 5 "$console" | tr -d '\r' | grep . | sed 's/^/console=/'
