# Brings this machine up to date after it was restored or resumed. Usage: sh catch-up.sh BUNDLE
#
# BUNDLE is the folder with the package files named below. Nothing of it is used before every digest was checked, and a wrong
# bundle changes nothing. Safe to run again at any point: what is done stays done.
set -u

state=${DORMOUSE_STATE:-/var/lib/dormouse/catch-up}
root=${DORMOUSE_ROOT:-}
export DEBIAN_FRONTEND=noninteractive
export DEBCONF_NONINTERACTIVE_SEEN=true
export LC_ALL=C
umask 022

say() { printf 'catch-up: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}
run_dpkg() {
  if [ -n "$root" ]; then
    dpkg --root="$root" "$@"
  else
    dpkg "$@"
  fi
}
query() {
  dpkg-query --admindir="$root/var/lib/dpkg" --show --showformat="$1" "$2" 2>/dev/null
}
# shellcheck disable=SC2016 # dpkg-query's own variables
state_of() { query '${db:Status-Status}' "$1"; }
# shellcheck disable=SC2016
version_of() { query '${Version}' "$1"; }

# is_current PACKAGE VERSION: that version, or a later one, is installed and configured.
is_current() {
  [ "$(state_of "$1")" = installed ] && dpkg --compare-versions "$(version_of "$1")" ge "$2"
}

bundle=${1:-}
[ -n "$bundle" ] || die "usage: sh catch-up.sh BUNDLE"
[ -d "$bundle" ] || die "$bundle is no folder"
bundle=$(cd "$bundle" && pwd) || die "cannot enter $bundle"
if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
  die "must be run as root"
fi

# 1. The whole bundle is checked before anything is changed.
list_packages | while read -r digest size file package version; do
  [ -f "$bundle/$file" ] || die "$bundle has no $file"
  [ "$(wc -c <"$bundle/$file")" -eq "$size" ] || die "$file is not $size bytes long; nothing was changed"
  printf '%s  %s\n' "$digest" "$bundle/$file" | sha256sum --check --status --strict ||
    die "$file is not the package file planned for $package $version; nothing was changed"
done || exit 1

# 2. This is the machine that was planned for: every package is there in the version planned from, or further.
list_upgrades | while read -r package from to; do
  there=$(version_of "$package")
  [ "$there" = "$from" ] || is_current "$package" "$to" || [ "$there" = "$to" ] ||
    die "$package is $there and not $from; this plan is for another state of this machine; nothing was changed"
done || exit 1

mkdir -p "$state" || die "cannot write to $state"

# 3. The network stays away until all is done.
network() {
  [ -z "$root" ] || return 0
  case $1 in
    away)
      [ -e "$state/network-away" ] && return 0
      : >"$state/links"
      for link in /sys/class/net/*; do
        name=${link##*/}
        [ "$name" != lo ] || continue
        if ip link show dev "$name" up 2>/dev/null | grep -q .; then
          echo "$name" >>"$state/links"
        fi
      done
      : >"$state/network-away"
      while read -r name; do ip link set dev "$name" down || say "cannot take $name down"; done <"$state/links"
      ;;
    back)
      [ -e "$state/network-away" ] || return 0
      while read -r name; do ip link set dev "$name" up || say "cannot take $name up"; done <"$state/links"
      rm -f "$state/network-away" "$state/links"
      ;;
  esac
}
if [ "$isolate" = yes ]; then
  say "keeping the network away until all is done"
  network away
fi

# 4. Packages, in their order; dpkg itself goes on where it was interrupted.
set --
while read -r _ _ file package version; do
  [ -n "$package" ] || continue
  if is_current "$package" "$version"; then
    say "$package $version is there"
  else
    set -- "$@" "$bundle/$file"
  fi
done <<EOF
$(list_packages)
EOF
if [ "$#" -gt 0 ]; then
  say "installing $# packages"
  run_dpkg --force-confold --force-confdef --auto-deconfigure --install "$@" || die "dpkg failed; run this again once its reason is gone"
fi
run_dpkg --force-confold --force-confdef --configure --pending || die "dpkg failed; run this again once its reason is gone"

# 5. What must hold now.
outstanding=$(run_dpkg --audit) || die "dpkg --audit failed"
[ -z "$outstanding" ] || die "dpkg has more to say: $outstanding"
list_packages | while read -r _ _ _ package version; do
  is_current "$package" "$version" || die "$package $version is not installed"
done || exit 1

# 6. New versions into use. A machine that must be started anew stays off the network until then.
if [ -z "$root" ]; then
  if [ "$reboot" = yes ]; then
    : >"$state/reboot-needed"
    say "done; this machine must be started anew, because of"
    list_reasons >&2
  else
    if [ -d /run/systemd/system ]; then
      list_services | while read -r unit; do
        systemctl try-restart "$unit" || say "cannot restart $unit"
      done
    fi
    network back
  fi
fi
printf '{"schema":"dormouse/caught-up/v1","plan":"%s","outcome":"done","reboot":"%s"}\n' "$plan" "$reboot" >"$state/result.json.new" &&
  mv -f "$state/result.json.new" "$state/result.json"
say "done"
