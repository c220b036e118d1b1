#!/usr/bin/env bash
# Says what other programs think of a patched machine: qemu's own check and reader, e2fsck, the machine's dpkg and apt.
#
#   check-patched.sh IMAGE MIRROR
#
# IMAGE is read through `qemu-img convert` into a scratch raw disk; all that follows happens to that copy. As root the
# copy is mounted by the kernel; otherwise its files are drawn out by debugfs inside a user namespace (hard links
# become copies there). Prints key=value lines:
#
#   image_check, filesystem_check           "clean", or what was found
#   packages, unpacked, triggers_pending    numbers of packages by state, as the image has them
#   audit                                   a line of `dpkg --audit`
#   verify                                  a line of `dpkg --verify`
#   dpkg_dist, dpkg_new                     a file that dpkg left, or leaves, beside a conffile
#   configure, configure_seconds            what `dpkg --configure -a` ended with in a chroot of the copy, or the first boot's own
#                                           script where packages wait for it
#   outstanding                             a package that is not in its desired state after that
#   audit_after, verify_after               the same as above, after that
#   apt_upgraded, apt_new, apt_removed      what `apt-get -s dist-upgrade` against MIRROR would still do
#   filesystem_check_after                  e2fsck's word on the mounted copy, when all is done (root only)
#   result                                  "clean", or "not clean"
#
# Ends with 0 when the image and its filesystem are clean, every package can be configured, and apt has nothing to do.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/disk.sh
. "$here/parts/disk.sh"
# shellcheck source=SCRIPTDIR/parts/namespace.sh
. "$here/parts/namespace.sh"

[ "$#" -eq 2 ] || { echo "usage: ${0##*/} IMAGE MIRROR" >&2; exit 2; }
for program in qemu-img jq e2fsck debugfs dpkg dpkg-query apt-get unshare; do
  command -v "$program" >/dev/null || { echo "check-patched: $program is missing; see prerequisites.sh" >&2; exit 2; }
done

image=$(realpath "$1") mirror=$(realpath "$2")
[ -r "$mirror/dists" ] || { echo "check-patched: $2 is no mirror (no dists/)" >&2; exit 2; }
clean=yes
report() { printf '%s=%s\n' "$1" "$2"; }
fault() {
  report "$1" "$2"
  clean=no
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/check-patched.XXXXXX")
trap 'in_namespace rm -rf --one-file-system "$scratch"' EXIT
raw="$scratch/disk.raw"

# check_filesystem KEY
check_filesystem() {
  if e2fsck -fn "$(root_filesystem "$raw")" >"$scratch/e2fsck" 2>&1; then
    report "$1" clean
  else
    fault "$1" "$(grep -vE '^(Pass|e2fsck)' "$scratch/e2fsck" | head -n 5 | tr '\n' ' ')"
  fi
}

case $image in
  *.raw | *.img)
    format=raw
    report image_check clean
    ;;
  *)
    format=$(qemu-img info --output=json "$image" | jq -r .format)
    if qemu-img check -f "$format" "$image" >"$scratch/check" 2>&1; then
      report image_check clean
    else
      fault image_check "$(tail -n 3 "$scratch/check" | tr '\n' ' ')"
    fi
    ;;
esac
qemu-img convert -f "$format" -O raw "$image" "$raw"
check_filesystem filesystem_check

set +e
in_namespace "$here/parts/examine.sh" "$raw" "$mirror" "$scratch"
status=$?
set -e
[ "$status" -eq 0 ] || clean=no
[ "$(id -u)" -ne 0 ] || check_filesystem filesystem_check_after

if [ "$clean" = yes ]; then
  report result clean
else
  report result 'not clean'
  exit 1
fi
