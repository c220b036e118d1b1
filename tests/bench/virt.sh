#!/usr/bin/env bash
# What virt-customize, libguestfs' way to install into an image that sleeps, takes for the packages that patch.sh installs:
# it starts a helper machine under software emulation and runs the guest's own dpkg there.
#
#   virt.sh GUESTS-DIR
#
# Prints virt_seconds, of one run, for it takes minutes. Needs what prepare.sh made, virt-customize, and a kernel in /boot
# for its helper machine.
set -euo pipefail
[ "$#" -eq 1 ] || { echo "usage: ${0##*/} GUESTS-DIR" >&2; exit 2; }
for program in virt-customize qemu-img; do
  command -v "$program" >/dev/null || { echo "virt: $program is missing; see guests/prerequisites.sh" >&2; exit 2; }
done
folder=$(realpath "$1")
scratch=$(mktemp -d "$folder/virt.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/packages"
cut -f5 "$folder/server-40.tsv" | while read -r file; do cp "$folder/server-mirror/$file" "$scratch/packages/"; done
qemu-img create -q -f qcow2 -b "$folder/server-40.qcow2" -F qcow2 "$scratch/virt.qcow2"
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg LIBGUESTFS_CACHEDIR="$scratch"
started=$(date +%s.%N)
# Daemons that a postinst starts would keep the helper machine's /dev busy when it unmounts the guest, so the guest is told,
# by the way Debian has for that, to start none; the file is gone before the image is closed.
printf '#!/bin/sh\nexit 101\n' >"$scratch/policy-rc.d"
chmod 755 "$scratch/policy-rc.d"
virt-customize --quiet --format qcow2 --add "$scratch/virt.qcow2" --no-network --copy-in "$scratch/packages:/var/tmp" \
  --copy-in "$scratch/policy-rc.d:/usr/sbin" \
  --run-command 'DEBIAN_FRONTEND=noninteractive dpkg --force-confold --force-confdef --install /var/tmp/packages/*.deb' \
  --delete /usr/sbin/policy-rc.d >&2
awk -v started="$started" -v ended="$(date +%s.%N)" 'BEGIN { printf "virt_seconds=%.2f\n", ended - started }'
