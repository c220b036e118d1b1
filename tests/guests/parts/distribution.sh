# shellcheck shell=bash
# The distribution: where its archives are, and private apt roots that answer questions about a machine that is
# not this one. Sourced by the scripts one folder up.

release=bookworm
architecture=amd64
archive_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || fail "$program is missing; tests/guests/prerequisites.sh installs it"
  done
}

# Sets `mirror` and `security_mirror`: from the environment, else the archives that this host itself uses.
find_mirrors() {
  local targets
  # shellcheck disable=SC2016 # $(CODENAME) is apt's own notation
  targets=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sort -u)
  mirror=${DORMOUSE_DEBIAN_MIRROR:-$(awk '$1 ~ /^[a-z]+$/ { print $2; exit }' <<<"$targets")}
  security_mirror=${DORMOUSE_SECURITY_MIRROR:-$(awk '$1 ~ /-security$/ { print $2; exit }' <<<"$targets")}
  mirror=${mirror%/}
  security_mirror=${security_mirror%/}
  [ -n "$mirror" ] || fail "apt names no Debian archive here; set DORMOUSE_DEBIAN_MIRROR to the URI of one"
  [ -n "$security_mirror" ] ||
    fail "apt names no Debian security archive here; set DORMOUSE_SECURITY_MIRROR to the URI of one"
  [ -r "$archive_keyring" ] || fail "$archive_keyring is missing; tests/guests/prerequisites.sh installs it"
}

# How this host reaches its archives (proxies, retries, clock tolerance), as apt configuration on stdout.
transport_configuration() {
  apt-config dump | grep -E '^Acquire::(http|https|ftp|Retries|Check-Valid-Until|Check-Date|ForceIPv[46])\b.*"[^"]' || true
}

release_source() {
  echo "deb [arch=$architecture signed-by=$archive_keyring] $mirror $release main"
}

security_source() {
  echo "deb [arch=$architecture signed-by=$archive_keyring] $security_mirror $release-security main"
}

# private_apt_root FOLDER: an apt root that knows the release and security suites and nothing of this host's packages.
private_apt_root() {
  local root=$1
  mkdir -p "$root"/{lists/partial,archives/partial,sources,preferences,configuration}
  { release_source && security_source; } >"$root/sources/debian.list"
  : >"$root/status"
  {
    transport_configuration
    cat <<EOF
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$root/configuration";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$root/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$root/preferences";
Dir::State "$root";
Dir::State::lists "$root/lists";
Dir::State::status "$root/status";
Dir::State::extended_states "/dev/null";
Dir::Cache "$root";
Dir::Cache::archives "$root/archives";
Dir::Log "$root";
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
EOF
  } >"$root/apt.conf"
}

# private_apt ROOT STATUS ARGUMENT...: apt-get as a machine with this dpkg status file would see the archives.
private_apt() {
  local root=$1 status=$2
  shift 2
  APT_CONFIG="$root/apt.conf" apt-get -q -o "Dir::State::status=$status" "$@"
}
