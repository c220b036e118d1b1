# Brings this machine up to date after it was restored or resumed. Usage: sh catch-up.sh [BUNDLE]
#
# BUNDLE is the folder with the package files named below, or one whose folder "packages" holds them; unless given, the
# folder that this script lies in. Nothing of it is used before every digest was checked, and a wrong bundle changes nothing.
# Safe to run again at any point: what is done stays done.
set -u

state=${DORMOUSE_STATE:-/var/lib/dormouse/catch-up}
root=${DORMOUSE_ROOT:-}
patience=${DORMOUSE_LOCK_SECONDS:-600}
boot=${DORMOUSE_BOOT:-$(cat /proc/sys/kernel/random/boot_id)}
log=
table=
newline='
'
export DEBIAN_FRONTEND=noninteractive
export DEBCONF_NONINTERACTIVE_SEEN=true
export LC_ALL=C
umask 022

say() {
  printf 'catch-up: %s\n' "$*" >&2
  [ -z "$log" ] || printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >>"$log"
}
die() {
  say "$*"
  [ "$(cat "$state/network-away" 2>/dev/null)" != "$boot" ] || say "the network stays away until a run of this ends well"
  exit 1
}

# --- what is there ---------------------------------------------------------------------------------------------------
native=$(dpkg --print-architecture) || die "there is no dpkg here"
names=$(list_packages | while read -r _ _ _ package _; do printf '%s ' "${package%:*}"; done)
# look: reads dpkg's database, in one go; keeps what it says of the planned packages.
look() {
  # shellcheck disable=SC2016 # dpkg-query's own variables
  everything=$(dpkg-query --admindir="$root/var/lib/dpkg" --show \
    --showformat='${Package}:${Architecture} ${db:Status-Status} ${Installed-Size} ${Version}\n') ||
    die "dpkg's database cannot be read"
  table=$(printf '%s\n' "$everything" | awk -v names="$names" '
    BEGIN { count = split(names, list, " "); for (i = 1; i <= count; i++) planned[list[i]] = 1 }
    { split($1, name, ":") }
    name[1] in planned')
}
# find_exactly NAME:ARCHITECTURE: sets there_state, there_size (KiB) and there_version. A loop, for some shells take the
# square of a text's length to cut it at a pattern.
find_exactly() {
  IFS=$newline
  for row in $table; do
    case $row in
      "$1 "*)
        unset IFS
        row=${row#* }
        there_state=${row%% *} there_version=${row##* }
        there_size=${row#* }
        there_size=${there_size%% *}
        case $there_size in '' | *[!0-9]*) there_size=0 ;; esac
        return 0
        ;;
    esac
  done
  unset IFS
  return 1
}
# find_package NAME:ARCHITECTURE: also where it was of no architecture before, or is now.
find_package() {
  there_state=not-installed there_size=0 there_version=
  find_exactly "$1" && return 0
  case ${1##*:} in
    all | "$native") find_exactly "${1%:*}:all" || find_exactly "${1%:*}:$native" ;;
    *) return 1 ;;
  esac
}
# is_at_least VERSION: whether the version found is that one, or a later one.
is_at_least() {
  [ -n "$there_version" ] || return 1
  [ "$there_version" = "$1" ] || dpkg --compare-versions "$there_version" ge "$1"
}
upgrades=$newline$(list_upgrades)$newline
# missing: the lines of the packages that are not installed and configured in the version planned, or a later one.
missing() {
  list_packages | while read -r digest size file package version; do
    find_package "$package"
    case $upgrades in
      # As planned from: no program need be asked which is later.
      *"$newline$package $there_version $version$newline"*) ;;
      *) [ "$there_state" != installed ] || ! is_at_least "$version" || continue ;;
    esac
    printf '%s %s %s %s %s\n' "$digest" "$size" "$file" "$package" "$version"
  done
}
count() { printf '%s' "$1" | grep -c .; }

# --- dpkg, which others may be using -----------------------------------------------------------------------------------
# holder FILE: which process holds a lock on it, as the kernel says.
holder() {
  inode=$(stat -c %i "$1" 2>/dev/null) || return 1
  while read -r _ kind _ _ process place _; do
    case $kind:$place in
      POSIX:*:"$inode" | OFDLCK:*:"$inode")
        echo "$process"
        return 0
        ;;
    esac
  done </proc/locks
  return 1
}
dpkg_holder() { holder "$root/var/lib/dpkg/lock-frontend" || holder "$root/var/lib/dpkg/lock"; }
# await_dpkg: apt's timers may start as a machine wakes; they are let finish.
await_dpkg() {
  waited=0
  while process=$(dpkg_holder); do
    name=$(cat "/proc/$process/comm" 2>/dev/null) || name=another
    [ "$waited" -lt "$patience" ] ||
      die "process $process ($name) still holds dpkg's lock after $waited seconds; run this again once it is done"
    [ "$waited" -gt 0 ] || say "waiting for process $process ($name), which holds dpkg's lock"
    sleep 2
    waited=$((waited + 2))
  done
}
# run_dpkg ARGUMENT...: what it says goes to the log. Whoever takes its lock first is waited for.
run_dpkg() {
  while :; do
    await_dpkg
    if [ -n "$root" ]; then
      dpkg --root="$root" "$@" </dev/null >>"$log" 2>&1 9>&-
    else
      dpkg "$@" </dev/null >>"$log" 2>&1 9>&-
    fi && return 0
    dpkg_holder >/dev/null || return 1
  done
}
audit() {
  if [ -n "$root" ]; then dpkg --root="$root" --audit; else dpkg --audit; fi
}

# --- the network ---------------------------------------------------------------------------------------------------------
links_up() {
  for link in /sys/class/net/*; do
    [ "${link##*/}" != lo ] || continue
    flags=$(cat "$link/flags" 2>/dev/null) || continue
    [ $((flags & 1)) -eq 0 ] || echo "${link##*/}"
  done
}
# network_away: takes every link down. Said again, it takes down what came up since: a package's script may have
# restarted what manages the links. What a boot brought up is another network than the one remembered.
network_away() {
  [ "$isolate" = yes ] && [ -z "$root" ] || return 0
  up=$(links_up)
  if [ "$(cat "$state/network-away" 2>/dev/null)" = "$boot" ]; then
    [ -z "$up" ] || say "taking down again what came up: $(echo "$up" | tr '\n' ' ')"
  else
    say "keeping the network away until all is done"
    : >"$state/links"
    # A link that goes down loses its routes, and of IPv6 its addresses too.
    if [ -n "$up" ]; then
      ip -6 address save permanent scope global >"$state/addresses-6" 2>/dev/null || rm -f "$state/addresses-6"
      for family in 4 6; do
        ip "-$family" route save table all type unicast >"$state/routes-$family" 2>/dev/null || rm -f "$state/routes-$family"
      done
    fi
    echo "$boot" >"$state/network-away"
  fi
  for name in $up; do
    grep -qxF "$name" "$state/links" || echo "$name" >>"$state/links"
    ip link set dev "$name" down || die "cannot take the network link $name down"
  done
}
network_back() {
  [ -e "$state/network-away" ] || return 0
  if [ "$(cat "$state/network-away")" = "$boot" ]; then
    while read -r name; do
      ip link set dev "$name" up || say "cannot take the network link $name up"
    done <"$state/links"
    [ ! -s "$state/addresses-6" ] || ip -6 address restore <"$state/addresses-6" >>"$log" 2>&1 || say "not all addresses are back"
    for family in 4 6; do
      [ ! -s "$state/routes-$family" ] || ip "-$family" route restore <"$state/routes-$family" >>"$log" 2>&1 ||
        say "not all routes are back"
    done
    say "the network is back"
  fi
  rm -f "$state/network-away" "$state/links" "$state/addresses-6" "$state/routes-4" "$state/routes-6"
}

# --- 1. whether it can be done, before anything is changed -----------------------------------------------------------------
if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
  die "must be run as root"
fi
look
todo=$(missing)
# This is the machine that was planned for: every package is there in the version planned from, or further.
list_upgrades | while read -r package from to; do
  find_package "$package"
  [ "$there_version" = "$from" ] || is_at_least "$to" ||
    die "$package is ${there_version:-not there} and not $from; this plan is for another state of this machine; nothing was changed"
done || exit 1
bundle=
if [ -n "$todo" ]; then
  bundle=${1:-$(dirname "$0")}
  [ -d "$bundle" ] || die "$bundle is no folder; usage: sh catch-up.sh BUNDLE"
  [ ! -d "$bundle/packages" ] || bundle=$bundle/packages
  bundle=$(cd "$bundle" && pwd) || die "cannot enter $bundle"
  # All at once; and where that finds fault, one by one for the name of what is wrong.
  list_packages | while read -r digest _ file _; do
    printf '%s  %s\n' "$digest" "$bundle/$file"
  done | sha256sum --check --status --strict 2>/dev/null || {
    list_packages | while read -r digest size file package version; do
      [ -f "$bundle/$file" ] || die "$bundle has no $file; nothing was changed"
      [ "$(wc -c <"$bundle/$file")" -eq "$size" ] || die "$file is not $size bytes long; nothing was changed"
      printf '%s  %s\n' "$digest" "$bundle/$file" | sha256sum --check --status --strict ||
        die "$file is not the package file planned for $package $version; nothing was changed"
    done || exit 1
    die "the files of $bundle cannot be read; nothing was changed"
  }
fi
# free FOLDER: KiB that may be written there.
free() { df -Pk "$1" | tail -n 1 | { read -r _ _ _ available _ && echo "$available"; }; }
filesystem_of() { stat -c %d "$1"; }
if [ -n "$todo" ]; then
  # Files are unpacked beside those that they replace, one package at a time; each new kernel gets an initial RAM disk.
  need=16384 boot_need=0 largest=0 ram_disk=0
  for file in "$root"/boot/initrd*; do
    [ -f "$file" ] || continue
    size=$(($(wc -c <"$file") * 5 / 4096))
    [ "$size" -le "$ram_disk" ] || ram_disk=$size
  done
  while read -r _ _ file package _; do
    # shellcheck disable=SC2016 # dpkg-deb's own variable
    size=$(dpkg-deb --show --showformat='${Installed-Size}' "$bundle/$file") || die "$file cannot be read; nothing was changed"
    case $size in '' | *[!0-9]*) size=0 ;; esac
    find_package "$package"
    [ "$size" -le "$there_size" ] || need=$((need + size - there_size))
    [ "$size" -le "$largest" ] || largest=$size
    case $package in linux-image-[0-9]*) boot_need=$((boot_need + ram_disk + 16384)) ;; esac
  done <<EOF
$todo
EOF
  need=$((need + largest))
  # dpkg's lists and the log; and a RAM disk is put together there.
  var_need=$((16384 + ram_disk * 4))
  if [ "$(filesystem_of "$root/var")" != "$(filesystem_of "$root/usr")" ]; then
    [ "$(free "$root/var")" -ge "$var_need" ] ||
      die "/var has $(free "$root/var") KiB free, and $var_need are needed; nothing was changed"
  else
    need=$((need + var_need))
  fi
  if [ "$boot_need" -gt 0 ] && [ "$(filesystem_of "$root/boot")" != "$(filesystem_of "$root/usr")" ]; then
    [ "$(free "$root/boot")" -ge "$boot_need" ] ||
      die "/boot has $(free "$root/boot") KiB free, and $boot_need are needed; nothing was changed"
  else
    need=$((need + boot_need))
  fi
  [ "$(free "$root/usr")" -ge "$need" ] ||
    die "there are $(free "$root/usr") KiB free, and $need are needed; nothing was changed"
  if [ "$isolate" = yes ] && [ -z "$root" ] && [ -n "$(links_up)" ] && ! command -v ip >/dev/null; then
    die "the network cannot be kept away, for there is no program ip here; nothing was changed"
  fi
fi

# --- 2. one run at a time, which outlives the terminal that it was started from ----------------------------------------------
mkdir -p "$state" || die "cannot write to $state"
exec 9>"$state/lock"
flock -n 9 || die "another catch-up is running on this machine; its log is $state/log"
trap '' HUP
log=$state/log
if [ -f "$0" ] && [ "$0" != "$state/catch-up.sh" ]; then
  cp "$0" "$state/catch-up.sh.new" && mv -f "$state/catch-up.sh.new" "$state/catch-up.sh"
fi
say "plan $plan"
await_dpkg

# --- 3. packages, in their order; dpkg itself goes on where it was interrupted ------------------------------------------------
look
todo=$(missing)
changed=no
if [ -n "$todo" ] || [ -n "$(audit)" ] || [ -e "$state/unfinished" ]; then
  changed=yes
  network_away
  : >"$state/unfinished"
  while :; do
    before=$(count "$todo") failed=no
    set --
    while read -r _ _ file _; do
      [ -z "$file" ] || set -- "$@" "$bundle/$file"
    done <<EOF
$todo
EOF
    if [ "$#" -gt 0 ]; then
      [ -n "$bundle" ] || die "the packages changed while this was starting; run it again"
      say "installing $# packages; dpkg's words are in $log"
      run_dpkg --force-confold --force-confdef --auto-deconfigure --install "$@" || failed=yes
    fi
    run_dpkg --force-confold --force-confdef --configure --pending || failed=yes
    look
    todo=$(missing)
    [ -n "$todo" ] || break
    # What pre-depends on a package of this list waits for the next round.
    if [ "$(count "$todo")" -ge "$before" ] || [ "$failed" = no ]; then
      tail -n 20 "$log" >&2
      die "dpkg did not install $(count "$todo") packages; run this again once its reason is gone"
    fi
  done
  network_away
fi

# Fixes say how files are to be: one that is made changes nothing.
make_fixes
[ "$fixes_failed" = no ] || die "a fix cannot be made; run this again once its reason is gone"

# --- 4. what must hold now ------------------------------------------------------------------------------------------------
outstanding=$(audit) || die "dpkg --audit failed"
[ -z "$outstanding" ] || die "dpkg has more to say: $outstanding"

# --- 5. new versions into use. A machine that must be started anew stays off the network until then; its boot brings the
# network up, and the next run says whether it was started. ------------------------------------------------------------------
restart=no
if [ "$reboot" = yes ]; then
  marked=$(cat "$state/restart-needed" 2>/dev/null) || marked=
  if [ "$changed" = no ] && [ "${marked% *}" = "$plan" ] && [ "${marked##* }" != "$boot" ]; then
    restart="done"
    releases=$(list_packages | sed -n 's/^.* linux-image-\([0-9][^ :]*\):[^ ]* [^ ]*$/\1/p' | sed -e 's/-unsigned$//' -e '/-dbg$/d')
    if [ -z "$root" ] && [ -n "$releases" ] && ! printf '%s\n' "$releases" | grep -qxF "$(uname -r)"; then
      die "this machine was started anew, and runs the kernel $(uname -r) and not $(echo "$releases" | tr '\n' ' '): see its boot loader"
    fi
    network_back
  else
    restart=yes
    printf '%s %s\n' "$plan" "$boot" >"$state/restart-needed"
  fi
elif [ -z "$root" ]; then
  if [ "$changed" = yes ] && [ -d /run/systemd/system ]; then
    list_services | while read -r unit; do
      systemctl try-restart "$unit" </dev/null 9>&- || say "cannot restart $unit"
    done
  fi
  network_back
fi
printf '{"schema":"dormouse/caught-up/v1","plan":"%s","outcome":"done","reboot":"%s"}\n' "$plan" "$restart" >"$state/result.json.new" ||
  die "cannot write $state/result.json.new"
mv -f "$state/result.json.new" "$state/result.json" || die "cannot write $state/result.json"
rm -f "$state/unfinished"
sync
case $restart in
  yes)
    say "done; this machine must be started anew, which brings its network back, because of"
    list_reasons >&2
    say "then \"sh $state/catch-up.sh\" says whether it was"
    ;;
  *) say "done" ;;
esac
