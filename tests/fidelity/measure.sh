#!/usr/bin/env bash
# Measures one patched server against dpkg.
#
#   measure.sh DORMOUSE CORPUS-DIR RELEASE
#
# CORPUS-DIR/RELEASE is what guests/corpus.sh made. Leaves there:
#
#   dpkg.qcow2            what dpkg in a chroot makes of the server with everything pending (kept for the next run)
#   patched.qcow2         what `dormouse patch` makes of it, patched.json what it says
#   configured.qcow2      patched.qcow2 after the first boot's own work, done in a chroot; first-boot.log
#   offline.json          dpkg.qcow2 against patched.qcow2
#   final.json            dpkg.qcow2 against configured.qcow2
#   facts.json            everything that results.py needs beside these
#
# Ends with 0 when it could measure; results.py says how good it is. Needs root, /dev/fuse and loop devices.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
guests="$here/../guests"
# shellcheck source=SCRIPTDIR/../guests/parts/disk.sh
. "$guests/parts/disk.sh"
# shellcheck source=SCRIPTDIR/../guests/parts/namespace.sh
. "$guests/parts/namespace.sh"
# shellcheck source=SCRIPTDIR/../guests/parts/mounted.sh
. "$guests/parts/mounted.sh"

[ "$#" -eq 3 ] || { echo "usage: ${0##*/} DORMOUSE CORPUS-DIR RELEASE" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || { echo "measure: dpkg in a chroot of a mounted image needs root" >&2; exit 2; }
if [ -z "${DORMOUSE_OWN_MOUNTS:-}" ]; then
  DORMOUSE_OWN_MOUNTS=1 exec unshare --mount --propagation private -- "$0" "$@"
fi
dormouse=$(realpath "$1") folder=$(realpath "$2/$3") release=$3
image="$folder/server.qcow2" mirror="$folder/mirror" pending="$folder/mirror.facts/pending/server.tsv"
say() { printf '%s: [%4ds] %s\n' "$release" "$SECONDS" "$*"; }

# Two images are mounted at once: what mounted.sh holds about each is put away under a name.
declare -A held
hold() {
  held[$1]="$mounted_folder|$mounted_daemon|$mounted_device|$mounted_root"
  mounted_folder='' mounted_daemon='' mounted_device='' mounted_root=''
}
release_held() {
  [ -n "${held[$1]:-}" ] || return 0
  IFS='|' read -r mounted_folder mounted_daemon mounted_device mounted_root <<<"${held[$1]}"
  unset "held[$1]"
  unmount_image
}
cleanup() {
  if [ -n "$mounted_root" ] && [ -e "$mounted_root/usr/sbin/policy-rc.d" ]; then leave_chroot "$mounted_root" 2>/dev/null || true; fi
  unmount_image
  release_held theirs
  release_held ours
}
trap cleanup EXIT

# --- the reference ---------------------------------------------------------------------------------------------
reference_key=$(cat "$folder/server.key" "$folder/mirror.facts/key" "$guests"/{chroot-dpkg.sh,parts/mounted.sh,parts/namespace.sh} |
  sha256sum | cut -d' ' -f1)
if [ "$(cat "$folder/dpkg.key" 2>/dev/null)" != "$reference_key" ]; then
  say "dpkg installs $(wc -l <"$pending") packages in a chroot"
  rm -f "$folder/dpkg.qcow2" "$folder/dpkg.key"
  "$guests/chroot-dpkg.sh" --mark-automatic "$image" "$mirror" "$pending" "$folder/dpkg.qcow2" >"$folder/dpkg.times"
  echo "$reference_key" >"$folder/dpkg.key"
fi
dpkg_seconds=$(sed -n 's/^seconds_total=//p' "$folder/dpkg.times")

# --- Dormouse --------------------------------------------------------------------------------------------------
as_of=$(sed -n 's/^Date: //p' "$mirror/dists/$release-security/InRelease" | head -1)
as_of=$(date -u -d "$as_of + 1 hour" +%Y-%m-%dT%H:%M:%SZ)
judged=(--baseline debian-security --repo "$mirror" --keyring "$mirror/keyring.gpg" --as-of "$as_of")
rm -rf "$folder"/{patched,configured}.qcow2 "$folder/state"
started=$(date +%s%N)
patch_status=0
"$dormouse" patch "$image" "${judged[@]}" --format json --no-progress --state "$folder/state" \
  -o "$folder/patched.qcow2" >"$folder/patched.json" 2>"$folder/patched.log" || patch_status=$?
patch_milliseconds=$((($(date +%s%N) - started) / 1000000))
rm -rf "$folder/state"
if [ ! -f "$folder/patched.qcow2" ]; then
  cat "$folder/patched.log" >&2
  echo "measure: dormouse patch ended with $patch_status and made no image" >&2
  exit 1
fi
say "dormouse patch took $patch_milliseconds ms"

# check_filesystem IMAGE: "clean", or what e2fsck says
check_filesystem() {
  local said exported
  mounted_folder=$(mktemp -d)
  export_qcow2 "$1" off
  if said=$(e2fsck -fn "$(root_filesystem "$exported")" 2>&1); then
    echo clean
  else
    grep -vE '^(Pass|e2fsck)' <<<"$said" | head -n 5 | tr '\n' ' '
  fi
  unmount_image
}
image_check=clean
qemu-img check -q "$folder/patched.qcow2" >"$folder/check" 2>&1 || image_check=$(tail -n 3 "$folder/check" | tr "\n" " ")
rm -f "$folder/check"
filesystem_patched=$(check_filesystem "$folder/patched.qcow2")
say "e2fsck of the patched image: $filesystem_patched"

# --- what was left for the first boot, done by its own script in a chroot -------------------------------------------
qemu-img create -q -f qcow2 -b "$folder/patched.qcow2" -F qcow2 "$folder/configured.qcow2"
mount_image "$folder/configured.qcow2" rw
states() { dpkg-query --admindir="$mounted_root/var/lib/dpkg" -W -f '${binary:Package}\t${Version}\t${db:Status-Status}\n'; }
states >"$folder/patched.states"
prepare_chroot "$mounted_root"
mount -t tmpfs tmpfs "$mounted_root/run"
first_boot=none
if [ -e "$mounted_root/var/lib/dormouse/first-boot" ]; then
  first_boot="done"
  in_chroot "$mounted_root" sh /var/lib/dormouse/first-boot </dev/null >"$folder/first-boot.log" 2>&1 || first_boot=failed
fi
audit=$(in_chroot "$mounted_root" dpkg --audit 2>&1 | tr '\n' ' ')
states >"$folder/configured.states"
umount "$mounted_root/run"
leave_chroot "$mounted_root"
unmount_image
say "the first boot's work in a chroot: $first_boot"
filesystem_configured=$(check_filesystem "$folder/configured.qcow2")

# The scripts that dpkg ran: those before and after unpacking and at configuration, of each package that it upgraded.
list_scripts() { # list_scripts KIND...
  local kind
  while IFS=$'\t' read -r package architecture _; do
    for kind in "$@"; do
      for file in "$mounted_root/var/lib/dpkg/info/$package.$kind" "$mounted_root/var/lib/dpkg/info/$package:$architecture.$kind"; do
        if [ -e "$file" ]; then printf '%s:%s\t%s\n' "$package" "$architecture" "$kind"; fi
      done
    done
  done <"$pending"
}
mount_image "$image" ro
list_scripts prerm postrm >"$folder/scripts.tsv"
unmount_image

# --- the comparisons ---------------------------------------------------------------------------------------------
mount_image "$folder/dpkg.qcow2" ro
dpkg_root=$mounted_root
states >"$folder/dpkg.states"
list_scripts preinst postinst >>"$folder/scripts.tsv"
hold theirs
for pair in patched:offline configured:final; do
  mount_image "$folder/${pair%:*}.qcow2" ro
  status=0
  "$here/compare.py" "$dpkg_root" "$mounted_root" --allowed "$here/allowed.toml" --quiet \
    --json "$folder/${pair#*:}.json" >"$folder/comparison" || status=$?
  say "dpkg against ${pair%:*}: $(cat "$folder/comparison")"
  [ "$status" -le 1 ] || exit 1
  if [ "$pair" = patched:offline ]; then
    "$here/owners.py" "$mounted_root" "$folder/offline.json" >"$folder/owners.json"
  fi
  unmount_image
done
release_held theirs
rm -f "$folder/comparison"

jq -n --arg release "$release" --arg as_of "$as_of" --arg image_check "$image_check" \
  --arg filesystem_patched "$filesystem_patched" --arg filesystem_configured "$filesystem_configured" \
  --arg first_boot "$first_boot" --arg audit "$audit" --argjson patch_status "$patch_status" \
  --argjson milliseconds "$patch_milliseconds" --arg dpkg_seconds "$dpkg_seconds" \
  '$ARGS.named' >"$folder/facts.json"
