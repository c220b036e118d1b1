#!/usr/bin/env bash
# Root's own way to list the packages of a disk image: export it as a raw file (qemu-storage-daemon, FUSE), attach
# that to a loop device, mount it read-only, ask dpkg-query, undo everything. The peer of `dormouse inventory`.
#
#   root-inventory.sh IMAGE [OFFSET-OF-THE-ROOT-BYTES [FORMAT [MOUNT-OPTIONS]]]
#
# Prints "package<TAB>architecture<TAB>version<TAB>state" lines. Needs root, /dev/fuse and loop devices. A raw image needs no
# export and gets none. The default offset is that of the recipes here, the default format, as QEMU names it, qcow2.
set -euo pipefail

image=$1 offset=${2:-$((65 * 1024 * 1024))} format=${3:-qcow2} options=${4:-ro}
folder=$(mktemp -d)
daemon='' device='' mounted=''
undo() {
  [ -z "$mounted" ] || umount "$folder/root"
  [ -z "$device" ] || losetup -d "$device"
  if [ -n "$daemon" ]; then
    kill "$daemon"
    wait "$daemon" || true
  fi
  rm -rf --one-file-system "$folder"
}
trap undo EXIT

mkdir "$folder/root"
case $image in
  *.raw | *.img) export=$image ;;
  *)
    export="$folder/export"
    : >"$export"
    mkfifo "$folder/ready"
    qemu-storage-daemon --blockdev "driver=file,node-name=file,filename=$image,read-only=on" \
      --blockdev "driver=$format,node-name=disk,file=file,read-only=on" \
      --export "type=fuse,id=export,node-name=disk,mountpoint=$export,writable=off" \
      --pidfile "$folder/pid" &
    daemon=$!
    # The pid file is written when the exports are in place.
    until [ -s "$folder/pid" ]; do
      kill -0 "$daemon" 2>/dev/null || exit 1
      read -r -t 0.002 <>"$folder/ready" || true
    done
    ;;
esac
device=$(losetup --find --show --read-only --offset "$offset" "$export")
mount -o "$options" "$device" "$folder/root"
mounted=yes
dpkg-query --admindir="$folder/root/var/lib/dpkg" -W -f '${Package}\t${Architecture}\t${Version}\t${db:Status-Status}\n'
