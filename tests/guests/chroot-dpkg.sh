#!/usr/bin/env bash
# The peer of `dormouse patch`: installs packages with the machine's own dpkg, in a chroot of a mounted image.
#
#   chroot-dpkg.sh [--unpack | --mark-automatic] IMAGE MIRROR PENDING RESULT
#
# PENDING is one of mirror.sh's pending/NAME.tsv, or a part of one. RESULT is a new overlay on IMAGE (a new raw copy,
# when IMAGE is raw). IMAGE is not changed. With --unpack, the packages of the last round are left unpacked, as a
# reference for what dpkg itself leaves in that state. With --mark-automatic, new packages are marked in apt's memory as
# there for others, as apt would have done. Services are kept from starting. Needs root, /dev/fuse and loop devices.
# Prints key=value lines: packages, seconds_total, seconds_dpkg.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/disk.sh
. "$here/parts/disk.sh"
# shellcheck source=SCRIPTDIR/parts/namespace.sh
. "$here/parts/namespace.sh"
# shellcheck source=SCRIPTDIR/parts/mounted.sh
. "$here/parts/mounted.sh"

arguments=("$@")
last=--install mark=no
case ${1:-} in
  --unpack)
    last=--unpack
    shift
    ;;
  --mark-automatic)
    mark=yes
    shift
    ;;
esac
[ "$#" -eq 4 ] || { echo "usage: ${0##*/} [--unpack | --mark-automatic] IMAGE MIRROR PENDING RESULT" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || { echo "chroot-dpkg: mounting an image needs root" >&2; exit 2; }
if [ -z "${DORMOUSE_OWN_MOUNTS:-}" ]; then
  DORMOUSE_OWN_MOUNTS=1 exec unshare --mount --propagation private -- "$0" "${arguments[@]}"
fi
image=$(realpath "$1") mirror=$(realpath "$2") pending=$(realpath "$3") result=$(realpath -m "$4")

log=$(mktemp)
cleanup() {
  unmount_image
  rm -f "$log"
}
trap cleanup EXIT
started=$(date +%s%N)
case $image in
  *.raw | *.img) cp --sparse=always "$image" "$result" ;;
  *) qemu-img create -q -f qcow2 -b "$image" -F qcow2 "$result" ;;
esac
mount_image "$result" rw
prepare_chroot "$mounted_root"
# What runs there leaves notes where a running machine forgets them.
mount -t tmpfs tmpfs "$mounted_root/run"
mkdir -p "$mounted_root/run/mirror"
mount --bind "$mirror" "$mounted_root/run/mirror"
mapfile -t rounds < <(cut -f 6 "$pending" | sort -nu)
dpkg_started=$(date +%s%N)
for round in "${rounds[@]}"; do
  action=--install
  [ "$round" != "${rounds[-1]}" ] || action=$last
  mapfile -t packages < <(awk -F '\t' -v round="$round" '$6 == round { print "/run/mirror/" $5 }' "$pending")
  in_chroot "$mounted_root" dpkg --auto-deconfigure --force-confdef --force-confold "$action" "${packages[@]}" \
    </dev/null >>"$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }
done
dpkg_ended=$(date +%s%N)
mapfile -t new < <(awk -F '\t' '$3 == "-" { print $1 ":" $2 }' "$pending")
if [ "$mark" = yes ] && [ "${#new[@]}" -gt 0 ]; then
  in_chroot "$mounted_root" apt-mark -qq -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= auto "${new[@]}" \
    >>"$log" 2>&1
fi
umount "$mounted_root/run/mirror"
umount "$mounted_root/run"
leave_chroot "$mounted_root"
unmount_image
ended=$(date +%s%N)
printf 'packages=%d\nseconds_total=%d.%03d\nseconds_dpkg=%d.%03d\n' "$(wc -l <"$pending")" \
  $(((ended - started) / 1000000000)) $(((ended - started) / 1000000 % 1000)) \
  $(((dpkg_ended - dpkg_started) / 1000000000)) $(((dpkg_ended - dpkg_started) / 1000000 % 1000))
