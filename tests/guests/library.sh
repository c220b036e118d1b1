#!/usr/bin/env bash
# Builds a small library of real, sleeping Debian machines.
#
#   library.sh DIR
#
# Every package comes from the distribution's release suite alone, so the security updates are really pending. A
# second call with the same recipes does nothing. Beside DIR, DIR.facts holds the dpkg status file of every machine
# and the digest of the recipes. Needs no root where user namespaces are allowed.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/distribution.sh
. "$here/parts/distribution.sh"
# shellcheck source=SCRIPTDIR/parts/namespace.sh
. "$here/parts/namespace.sh"
# shellcheck source=SCRIPTDIR/parts/disk.sh
. "$here/parts/disk.sh"
# shellcheck source=SCRIPTDIR/parts/bootstrap.sh
. "$here/parts/bootstrap.sh"

# MiB. A disk has room for every pending update: the old and the new kernel, the packages waiting, the databases.
web_size=2048
db_size=1536
build_size=1792
# What the suspended machine had in memory, MiB: enough for this kernel to boot.
suspended_memory=256

[ "$#" -eq 1 ] || { echo "usage: ${0##*/} DIR" >&2; exit 2; }
mkdir -p "$(dirname "$1")"
library=$(realpath -m "$1")
facts="$library.facts"

key=$(cd "$here" && recipes_digest library.sh \
  parts/{assemble,bootstrap,disk,distribution,emulator,namespace,suspend,upgrade}.sh machines/{web,db,build}.*)
if [ -d "$library" ] && [ "$(cat "$facts/key" 2>/dev/null)" = "$key" ]; then
  echo "library: $library is up to date"
  exit 0
fi

need mmdebstrap qemu-img qemu-system-x86_64 mke2fs debugfs mkfs.vfat mcopy sfdisk sha256sum apt-get dpkg-deb
find_mirrors

work="$library.partial"
new_facts="$facts.partial"
in_namespace rm -rf --one-file-system "$work" "$new_facts" "$work.scratch"
mkdir -p "$work" "$new_facts/status" "$work.scratch"
scratch="$work.scratch"
build_process=''
cleanup() {
  if [ -n "$build_process" ]; then
    kill -- "-$build_process" 2>/dev/null || true
    wait "$build_process" 2>/dev/null || true
  fi
  in_namespace rm -rf --one-file-system "$work" "$new_facts" "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# record_status DISK NAME: what dpkg says is installed on a raw disk.
record_status() {
  status_of_disk "$1" >"$new_facts/status/$2.status"
  [ -s "$new_facts/status/$2.status" ] || fail "$2 has no dpkg status file"
}

# upgraded TAR NEW-TAR STATUS-FILE PACKAGE...: really upgraded from the security suite, with all that this needs.
upgraded() {
  local tar=$1 new_tar=$2 status=$3
  shift 3
  local root="$scratch/apt"
  if [ ! -d "$root" ]; then
    private_apt_root "$root"
    private_apt "$root" "$root/status" update >/dev/null
  fi
  rm -f "$root"/archives/*.deb
  private_apt "$root" "$status" install -y --only-upgrade --no-install-recommends --download-only "$@" >/dev/null
  in_namespace "$here/parts/upgrade.sh" "$tar" "$new_tar" "$root"/archives/*.deb >"$scratch/upgrade.log" 2>&1 ||
    { cat "$scratch/upgrade.log" >&2; fail "dpkg could not upgrade $*"; }
}

status_of_tar() { tar -xf "$1" -O ./var/lib/dpkg/status; }

# debugfs_edit DISK COMMAND...: changes the root filesystem of a raw disk without mounting it.
debugfs_edit() {
  local disk=$1 said
  shift
  said=$(printf '%s\n' "$@" | debugfs -w -f - "$(root_filesystem "$disk")" 2>&1 >/dev/null | grep -v '^debugfs ' || true)
  [ -z "$said" ] || fail "debugfs: $said"
}

# put_file DISK HOST-FILE GUEST-PATH: an ordinary file of root's, replacing the one there.
put_file() {
  local removal=()
  if debugfs -R "stat $3" "$(root_filesystem "$1")" 2>/dev/null | grep -q '^Inode:'; then
    removal=("rm $3")
  fi
  debugfs_edit "$1" "${removal[@]}" "write $2 $3" "sif $3 mode 0100644" "sif $3 uid 0" "sif $3 gid 0"
}

# web_overlay NAME SENTENCE: the base as somebody went on using it.
web_overlay() {
  local name=$1 sentence=$2 raw="$scratch/$1.raw"
  cp --sparse=always "$scratch/web.raw" "$raw"
  echo "$name" >"$scratch/$name.hostname"
  printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s\n' "$name" >"$scratch/$name.hosts"
  echo "<p>$sentence</p>" >"$scratch/$name.html"
  uuid_of "$name machine" | tr -d - >"$scratch/$name.machine-id"
  head -c 3000000 /dev/urandom >"$scratch/$name.upload"
  put_file "$raw" "$scratch/$name.hostname" /etc/hostname
  put_file "$raw" "$scratch/$name.hosts" /etc/hosts
  put_file "$raw" "$scratch/$name.machine-id" /etc/machine-id
  put_file "$raw" "$scratch/$name.html" /srv/www/index.html
  put_file "$raw" "$scratch/$name.upload" "/srv/www/upload-$name.bin"
  e2fsck -fn "$(root_filesystem "$raw")" >/dev/null 2>&1 || fail "$name: the edited filesystem is not clean"
  thin_overlay "$work/$name.qcow2" "$work/web-base.qcow2" qcow2 "$raw"
  record_status "$raw" "$name"
  rm -f "$raw"
}

# A compressed base (zstd) and two overlays on it.
build_web() {
  bootstrap web "$scratch"
  assemble "$scratch/web.tar" "$scratch/web.raw" "$web_size" web-base "$here/machines/web.administrator"
  record_status "$scratch/web.raw" web-base
  qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd "$scratch/web.raw" "$work/web-base.qcow2"
  web_overlay web-01 'The first of two, asleep.'
  web_overlay web-02 'The second of two, asleep.'
  rm -f "$scratch/web.raw" "$scratch/web.tar"
  say "web-base.qcow2, web-01.qcow2, web-02.qcow2"
}

# A raw disk, and a truncated copy of the same machine.
build_db() {
  local raw="$work/db-01.raw" features=()
  bootstrap db "$scratch"
  # A default of newer mke2fs: take it where the host's knows it.
  truncate -s 8M "$scratch/probe"
  if mke2fs -n -q -F -t ext4 -O orphan_file "$scratch/probe" >/dev/null 2>&1; then features=(-O orphan_file); fi
  assemble "$scratch/db.tar" "$raw" "$db_size" db-01 "$here/machines/db.administrator" "${features[@]}"
  record_status "$raw" db-01
  qemu-img convert -f raw -O qcow2 "$raw" "$work/broken-01.qcow2"
  truncate_image "$work/broken-01.qcow2" "$raw"
  rm -f "$scratch/db.tar"
  say "db-01.raw, broken-01.qcow2"
}

# truncate_image QCOW2 RAW: cuts the image before the block that holds the end of the package list, as an
# interrupted copy would have.
truncate_image() {
  local image=$1 raw=$2 block offset
  block=$(debugfs -R 'blocks /var/lib/dpkg/status' "$(root_filesystem "$raw")" 2>/dev/null | tr ' ' '\n' | grep . | tail -n 1)
  offset=$(qemu-img map --output=json -f qcow2 "$image" |
    jq --argjson at $((root_start * mib + block * 4096)) \
      'map(select(.start <= $at and .start + .length > $at))[0] | .offset + ($at - .start)')
  truncate -s "$((offset / 65536 * 65536 + 1000))" "$image"
}

# Two internal snapshots at different patch levels, one of them with the machine's memory, and an active state.
# The first level's clusters are compressed with zlib.
build_build() {
  local image="$work/build-01.qcow2" status="$scratch/build.status"
  bootstrap build "$scratch"
  status_of_tar "$scratch/build.tar" >"$status"
  upgraded "$scratch/build.tar" "$scratch/build-2.tar" "$status" openssl libssl3 perl xz-utils liblzma5 libexpat1
  status_of_tar "$scratch/build-2.tar" >"$status"
  upgraded "$scratch/build-2.tar" "$scratch/build-3.tar" "$status" tzdata ca-certificates jq libjq1
  say "upgraded build-01 twice"

  local level
  for level in "" -2 -3; do
    assemble "$scratch/build$level.tar" "$scratch/build$level.raw" "$build_size" build-01 "$here/machines/build.administrator"
    rm "$scratch/build$level.tar"
  done
  qemu-img convert -f raw -O qcow2 -c "$scratch/build.raw" "$image"
  record_status "$scratch/build.raw" build-01@release
  rm "$scratch/build.raw"
  qemu-img snapshot -c release "$image"

  become "$image" "$scratch/build-2.raw"
  record_status "$scratch/build-2.raw" build-01@suspended-2026
  rm "$scratch/build-2.raw"
  "$here/parts/suspend.sh" "$image" suspended-2026 "$suspended_memory" >"$scratch/suspend.log" 2>&1 ||
    { tail -n 40 "$scratch/suspend.log" >&2; fail "build-01 could not be started and suspended"; }
  say "suspended build-01 while it was running"

  become "$image" "$scratch/build-3.raw"
  record_status "$scratch/build-3.raw" build-01
  rm "$scratch/build-3.raw"
  say "build-01.qcow2"
}

# become IMAGE RAW: the active state of IMAGE becomes the content of RAW; its snapshots stay.
become() {
  local difference="$work/difference.qcow2"
  thin_overlay "$difference" "$1" qcow2 "$2"
  qemu-img commit -q "$difference"
  rm "$difference"
}

echo "library: building real machines in $library (a few minutes; packages from this host's Debian archives)"
# In a process group of its own, so that ending early ends all of it.
set -m
build_build &
build_process=$!
set +m
build_web
build_db
wait "$build_process" || fail "build-01 was not made"
build_process=''

for image in "$work"/*.qcow2; do
  case $image in */broken-01.qcow2) continue ;; esac
  qemu-img check -q "$image" || fail "qemu-img finds fault with $image"
done
echo "$key" >"$new_facts/key"
in_namespace rm -rf --one-file-system "$library" "$facts"
mv "$new_facts" "$facts"
mv "$work" "$library"
say "done: $(du -sh "$library" | cut -f1) in $library"
