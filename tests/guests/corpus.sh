#!/usr/bin/env bash
# Builds the servers on which Dormouse is measured against dpkg: one for each release, about 400 packages, bootable.
#
#   corpus.sh DIR RELEASE...
#
# Leaves DIR/RELEASE/server.qcow2 (zstd-compressed, 5 GiB of virtual disk), DIR/RELEASE/server.status (its dpkg status
# file) and, by mirror.sh, DIR/RELEASE/mirror with all that is pending for it and the signed indices that say so. Like
# library.sh: release suite only, no root needed where user namespaces are allowed, and a second call does nothing.
set -euo pipefail
if [ "$#" -lt 2 ]; then
  echo "usage: ${0##*/} DIR RELEASE..." >&2
  exit 2
fi
if [ "$#" -gt 2 ]; then
  folder=$1
  shift
  for release in "$@"; do "$0" "$folder" "$release"; done
  exit
fi
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/distribution.sh
. "$here/parts/distribution.sh"
# shellcheck source=SCRIPTDIR/parts/namespace.sh
. "$here/parts/namespace.sh"
# shellcheck source=SCRIPTDIR/parts/disk.sh
. "$here/parts/disk.sh"
# shellcheck source=SCRIPTDIR/parts/bootstrap.sh
. "$here/parts/bootstrap.sh"
# These machines' administrators take no recommended packages, neither now nor with updates.
export DORMOUSE_RELEASE=$2 DORMOUSE_RECOMMENDS=false
release=$2

# MiB: room for two kernels and the packages that wait.
size=5120
bootstrap_options=() filesystem_options=()
if [ "$release" = bullseye ]; then
  # As its installer does; later releases merge /usr by a package of their own.
  # shellcheck disable=SC2016 # $1 is mmdebstrap's to expand
  bootstrap_options=('--setup-hook=for folder in bin sbin lib lib32 lib64 libx32; do
    mkdir -p "$1/usr/$folder" && ln -s "usr/$folder" "$1/$folder"; done')
  # Its e2fsck is older than this feature, and would stop the boot.
  filesystem_options=(-O '^metadata_csum_seed,^orphan_file')
fi

mmdebstrap() { command mmdebstrap "${bootstrap_options[@]}" "$@"; }

mkdir -p "$1/$release"
folder=$(realpath "$1/$release")
key=$(cd "$here" && { echo "$release"; cat corpus.sh parts/{assemble,bootstrap,disk,distribution,namespace}.sh \
  machines/corpus.*; } | sha256sum | cut -d' ' -f1)
if [ "$(cat "$folder/server.key" 2>/dev/null)" = "$key" ]; then
  echo "corpus: $folder/server.qcow2 is up to date"
else
  need mmdebstrap qemu-img mke2fs debugfs mkfs.vfat mcopy sfdisk sha256sum apt-get
  find_mirrors
  scratch="$folder/server.partial"
  in_namespace rm -rf --one-file-system "$scratch"
  mkdir "$scratch"
  trap 'in_namespace rm -rf --one-file-system "$scratch"' EXIT

  say "building a server of $release in $folder (a few minutes; packages from this host's Debian archives)"
  bootstrap corpus "$scratch"
  assemble "$scratch/corpus.tar" "$scratch/server.raw" "$size" server "$here/machines/corpus.administrator" \
    "${filesystem_options[@]}"
  status_of_disk "$scratch/server.raw" >"$scratch/server.status"
  say "$(grep -c '^Status: install ok installed' "$scratch/server.status") packages"
  e2fsck -fn "$(root_filesystem "$scratch/server.raw")" >/dev/null 2>&1 || fail "the root filesystem is not clean"
  qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd "$scratch/server.raw" "$scratch/server.qcow2"
  rm -f "$folder/server.key" "$scratch/server.raw"
  mv "$scratch"/server.{qcow2,status} "$folder/"
  echo "$key" >"$folder/server.key"
  say "server.qcow2"
fi
"$here/mirror.sh" "$folder/mirror" "$folder/server.status"
