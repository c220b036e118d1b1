#!/usr/bin/env bash
# Builds one big server for the benchmarks: about 400 packages on a 4 GiB disk, in three containers.
#
#   server.sh DIR
#
# Leaves DIR/server.raw, DIR/server.qcow2, DIR/server-zstd.qcow2 and DIR/server.status (its dpkg status file); with
# mirror.sh, DIR/server-mirror is the mirror of what is pending for it. Like library.sh: release suite only, no root
# needed where user namespaces are allowed, and a second call does nothing.
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

# MiB.
size=4096

[ "$#" -eq 1 ] || { echo "usage: ${0##*/} DIR" >&2; exit 2; }
mkdir -p "$1"
folder=$(realpath "$1")
key=$(cd "$here" && recipes_digest server.sh \
  parts/{assemble,bootstrap,disk,distribution,namespace}.sh machines/server.*)
if [ "$(cat "$folder/server.key" 2>/dev/null)" = "$key" ]; then
  echo "server: $folder/server.* are up to date"
else
  need mmdebstrap qemu-img mke2fs debugfs mkfs.vfat mcopy sfdisk sha256sum apt-get
  find_mirrors
  scratch="$folder/server.partial"
  in_namespace rm -rf --one-file-system "$scratch"
  mkdir "$scratch"
  trap 'in_namespace rm -rf --one-file-system "$scratch"' EXIT

  say "building a server in $folder (a few minutes; packages from this host's Debian archives)"
  bootstrap server "$scratch"
  assemble "$scratch/server.tar" "$scratch/server.raw" "$size" server "$here/machines/server.administrator"
  status_of_disk "$scratch/server.raw" >"$scratch/server.status"
  say "$(grep -c '^Status: install ok installed' "$scratch/server.status") packages"
  qemu-img convert -f raw -O qcow2 "$scratch/server.raw" "$scratch/server.qcow2"
  qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd "$scratch/server.raw" "$scratch/server-zstd.qcow2"
  e2fsck -fn "$(root_filesystem "$scratch/server.raw")" >/dev/null 2>&1 || fail "the root filesystem is not clean"
  rm -f "$folder/server.key"
  mv "$scratch"/server.{raw,qcow2,status} "$scratch/server-zstd.qcow2" "$folder/"
  echo "$key" >"$folder/server.key"
  say "server.raw, server.qcow2, server-zstd.qcow2"
fi
"$here/mirror.sh" "$folder/server-mirror" "$folder/server.status"
