#!/usr/bin/env bash
# Holds user data against the schema of cloud-init, as it stands in the distribution's package. The package is unpacked and
# not installed, for an installed one would take part in this machine's own start.
#
#   cloud-init-schema.sh SCRATCH-DIR FILE...
#
# Ends with 0 when every file is valid. Needs what prerequisites.sh installs, and the archive the first time.
set -euo pipefail
if [ "$#" -lt 2 ]; then
  echo "usage: ${0##*/} SCRATCH-DIR FILE..." >&2
  exit 2
fi
mkdir -p "$1"
scratch=$(realpath "$1")
shift
if [ ! -d "$scratch/cloud-init" ]; then
  rm -rf "$scratch/partial"
  mkdir "$scratch/partial"
  # Without root apt's own lists are read, and fetched anew into the scratch folder where they are not there.
  fresh=(-o Dir::State::lists="$scratch/partial/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1)
  cd "$scratch/partial"
  if ! apt-get download -qq cloud-init 2>/dev/null; then
    mkdir -p lists/partial
    apt-get -qq "${fresh[@]}" update
    apt-get -qq "${fresh[@]}" download cloud-init 2>/dev/null
  fi
  cd - >/dev/null
  dpkg-deb -x "$scratch"/partial/cloud-init_*.deb "$scratch/partial/tree"
  mv "$scratch/partial/tree" "$scratch/cloud-init"
  rm -rf "$scratch/partial"
fi
for file in "$@"; do
  said=$(PYTHONPATH="$scratch/cloud-init/usr/lib/python3/dist-packages" /usr/bin/python3 -m cloudinit.cmd.main \
    schema --config-file "$file" 2>&1) || true
  if ! grep -q "^Valid cloud-config" <<<"$said"; then
    printf '%s: %s\n' "$file" "$(tail -n 3 <<<"$said")" >&2
    exit 1
  fi
done
