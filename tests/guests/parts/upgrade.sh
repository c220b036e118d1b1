#!/usr/bin/env bash
# Installs packages into a root archive the way its own dpkg does. Runs inside the namespace of parts/namespace.sh.
#
#   upgrade.sh TAR NEW-TAR DEB...
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/namespace.sh
. "$here/namespace.sh"

tar=$1 new_tar=$2
shift 2
scratch=$(mktemp -d "$(dirname "$new_tar")/upgrade.XXXXXX")
root="$scratch/root"
cleanup() {
  leave_chroot "$root" 2>/dev/null || true
  rm -rf --one-file-system "$scratch"
}
trap cleanup EXIT

unpack_root "$tar" "$root"
prepare_chroot "$root"
mkdir "$root/tmp/packages"
cp "$@" "$root/tmp/packages/"
in_chroot "$root" sh -c 'dpkg --force-confdef --force-confold --install /tmp/packages/*.deb && dpkg --audit'
rm -rf "$root/tmp/packages"
leave_chroot "$root"
tar --numeric-owner --xattrs --xattrs-include='*' --sort=name -C "$root" -cf "$new_tar" .
