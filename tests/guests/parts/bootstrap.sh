# shellcheck shell=bash
# shellcheck disable=SC2154 # `here`, `release` and `architecture` come from the script and distribution.sh
# From a list of packages to the archive of a root, and to a disk. Sourced after distribution.sh and namespace.sh,
# with `here` set to the folder of the recipes.

say() { printf '%s: [%3ds] %s\n' "$(basename "$0" .sh)" "$SECONDS" "$*"; }

# bootstrap NAME SCRATCH: SCRATCH/NAME.tar, the packages of machines/NAME.packages from the release suite alone.
bootstrap() {
  local name=$1 scratch=$2 packages
  packages=$(tr -s ' \n' ',' <"$here/machines/$name.packages")
  transport_configuration >"$scratch/$name.transport"
  # The transport's options are the host's business: the machine does not keep them.
  release_source | mmdebstrap --quiet --mode="$(build_mode)" --variant=minbase --architectures="$architecture" \
    --include="${packages%,}" --aptopt="$scratch/$name.transport" \
    --customize-hook="rm -f \"\$1/etc/apt/apt.conf.d/99mmdebstrap\"" \
    "$release" "$scratch/$name.tar" - >"$scratch/$name.log" 2>&1 ||
    { cat "$scratch/$name.log" >&2; fail "mmdebstrap could not make $name"; }
  say "installed $name"
}

# assemble TAR DISK SIZE-MIB NAME ADMINISTRATOR [MKE2FS-OPTION...]: the machine knows the security suite, as machines
# do; nobody has upgraded it yet.
assemble() {
  GUEST_SOURCES=$(release_source && security_source) in_namespace "$here/parts/assemble.sh" "$@"
}

# status_of_disk RAW: what dpkg says is installed on a raw disk of ours.
status_of_disk() { debugfs -R 'cat /var/lib/dpkg/status' "$(root_filesystem "$1")" 2>/dev/null; }

# recipes_digest FILE...: of the recipes, so that a changed one is built anew.
recipes_digest() { cat -- "$@" | sha256sum | cut -d' ' -f1; }
