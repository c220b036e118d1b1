#!/usr/bin/env bash
# Installs what the demo, the tests or the benchmarks need, from the distribution's own packages.
#
#   prerequisites.sh [demo] [test] [bench]     (without an argument: demo)
#
# Quick when everything is there: no index is refreshed unless a package is missing. Works as root, or through
# sudo when that asks for no password; otherwise prints the one command to run and exits with status 2.
set -euo pipefail

# What builds machines and mirrors, and what their users call.
demo=(mmdebstrap uidmap qemu-utils qemu-system-x86 ovmf e2fsprogs dosfstools mtools fdisk debian-archive-keyring
  apt-utils openssl jq zstd xz-utils curl sqlite3 file)
# What the tests ask for a second opinion.
test=("${demo[@]}" mailcap shellcheck dpkg-dev gpg gpg-agent gpgv fuse3 gdisk python3 rpm db-util pacman-package-manager xfsprogs
  btrfs-progs lvm2 thin-provisioning-tools mdadm cryptsetup-bin user-mode-linux kmod python3-hivex python3-pip python3-yaml
  ntfs-3g wimtools exfatprogs exfat-fuse squashfs-tools genisoimage xorriso erofs-utils
  lzop bzip2 gzip linux-image-cloud-amd64
  ansible-core python3-configobj python3-jinja2 python3-jsonpatch python3-jsonschema python3-netifaces python3-oauthlib
  python3-requests)
# What the benchmarks measure against and with.
bench=("${test[@]}" hyperfine python3-venv guestfs-tools)

usage() {
  printf 'usage: %s [demo] [test] [bench]\n' "${0##*/}" >&2
  exit 2
}

wanted=()
[ "$#" -gt 0 ] || set -- demo
for set in "$@"; do
  case $set in
    demo) wanted+=("${demo[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    bench) wanted+=("${bench[@]}") ;;
    *) usage ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "prerequisites: this is not a Debian system (no dpkg, no apt-get)" >&2
  exit 2
fi

installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in $(printf '%s\n' "${wanted[@]}" | sort -u); do
  installed "$package" || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
  echo "prerequisites: everything for '$*' is installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo)
  else
    echo "prerequisites: please run as root, then call this again:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 2
  fi
fi

apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"
}

# The qemu packages must all be of one version. A host whose qemu-utils came from the backports suite can take the
# emulator only from there; the suite is asked for this once, from the host's own mirror, and its sources stay as
# they are.
install_qemu_system_from_backports() {
  local version codename uri scratch
  version=$(dpkg-query -W -f '${Version}' qemu-utils)
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  # shellcheck disable=SC2016 # $(CODENAME) is apt's own notation
  uri=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk -v codename="$codename" '$1 == codename { print $2; exit }')
  [ -n "$uri" ] || return 1
  scratch=$(mktemp -d)
  mkdir -p "$scratch/lists/partial" "$scratch/sources"
  cp -a /etc/apt/sources.list.d/. "$scratch/sources/" 2>/dev/null || true
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $codename-backports main" \
    >"$scratch/sources/backports.list"
  chmod -R a+rX "$scratch"
  local options=(-o "Dir::Etc::sourceparts=$scratch/sources" -o "Dir::State::lists=$scratch/lists"
    -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=")
  local status=0
  { apt_get "${options[@]}" update &&
    apt_get "${options[@]}" install -y --no-install-recommends \
      "qemu-utils=$version" "qemu-system-x86=$version" "qemu-system-common=$version" "qemu-system-data=$version" \
      -t "$codename-backports"; } || status=$?
  "${as_root[@]}" rm -rf "$scratch"
  return "$status"
}

# A package that would have to remove or downgrade another one is not installed behind the user's back.
can_install() {
  apt_get install -s --no-install-recommends --no-remove "$@" >/dev/null 2>&1
}

echo "prerequisites: installing ${missing[*]}"
can_install "${missing[@]}" || apt_get update
if ! can_install "${missing[@]}"; then
  rest=()
  for package in "${missing[@]}"; do
    [ "$package" = qemu-system-x86 ] || rest+=("$package")
  done
  if [ "${#rest[@]}" -lt "${#missing[@]}" ] && installed qemu-utils; then
    echo "prerequisites: taking qemu-system-x86 of the version of qemu-utils from the backports suite"
    install_qemu_system_from_backports
  fi
  missing=("${rest[@]}")
fi
if [ "${#missing[@]}" -gt 0 ] && ! apt_get install -y --no-install-recommends --no-remove "${missing[@]}"; then
  # The index may have named versions that the mirror has replaced since.
  apt_get update
  apt_get install -y --no-install-recommends --no-remove "${missing[@]}"
fi
