#!/bin/sh
# Finishes what was put into this machine while it slept: configures unpacked packages, installs those that wait, and
# removes itself when nothing is outstanding. Safe to run again at any point, also after the power went.
set -u

state=/var/lib/dormouse
log=/var/log/dormouse/first-boot.log
result=$state/first-boot.json
export DEBIAN_FRONTEND=noninteractive
export DEBCONF_NONINTERACTIVE_SEEN=true
export LC_ALL=C
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 022

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }
say() { printf '%s %s\n' "$(now)" "$*"; }

# record OUTCOME STEP
record() {
  printf '{"schema":"dormouse/first-boot/v1","outcome":"%s","step":"%s","attempts":%d,"restart":%s,"time":"%s"}\n' \
    "$1" "$2" "$attempts" "$restart" "$(now)" >"$result.new" && mv -f "$result.new" "$result"
}

# Whatever else uses dpkg at boot is done within seconds.
patiently() {
  tries=1
  while ! "$@"; do
    [ "$tries" -lt 3 ] || return 1
    tries=$((tries + 1))
    say "trying again in 5 seconds: $*"
    sleep 5
  done
}

configure() {
  say "configuring unpacked packages"
  patiently dpkg --force-confold --force-confdef --configure --pending
}

is_installed() {
  [ "$(dpkg-query --show --showformat='${Version} ${db:Status-Status}' "$1" 2>/dev/null)" = "$2 installed" ]
}

# Each line of the list: digest, file, package:architecture, version. What pre-depends on another of them waits for the next
# round; whatever else uses dpkg at boot is done within seconds.
install_waiting() {
  [ -s "$state/waiting" ] || return 0
  before=0 tries=0
  while :; do
    set --
    while read -r digest file package version; do
      is_installed "$package" "$version" && continue
      if ! printf '%s  %s\n' "$digest" "$state/pending/$file" | sha256sum --check --status --strict; then
        say "$file is not what was put here; nothing is installed"
        return 1
      fi
      set -- "$@" "$state/pending/$file"
    done <"$state/waiting"
    [ "$#" -gt 0 ] || return 0
    if [ "$#" -eq "$before" ]; then
      tries=$((tries + 1))
      [ "$tries" -lt 3 ] || return 1
      say "trying again in 5 seconds"
      sleep 5
    fi
    before=$#
    say "installing $# packages that wait"
    dpkg --force-confold --force-confdef --auto-deconfigure --install "$@" || say "dpkg did not install all of them"
  done
}

nothing_is_outstanding() {
  outstanding=$(dpkg --audit) || return 1
  [ -z "$outstanding" ] || {
    say "dpkg has more to say:"
    printf '%s\n' "$outstanding"
    return 1
  }
}

# What update-notifier and unattended-upgrades look for.
ask_for_restart() {
  [ "$restart" = true ] || return 0
  say "the machine is to be started once more:"
  cat "$state/restart"
  cat "$state/restart" >>/run/reboot-required.pkgs
  echo "*** System restart required ***" >/run/reboot-required
}

leave() {
  say "done; removing the first-boot work"
  rm -f /etc/systemd/system/multi-user.target.wants/dormouse-first-boot.service \
    /etc/systemd/system/dormouse-first-boot.service \
    /etc/rc2.d/S99dormouse-first-boot /etc/rc3.d/S99dormouse-first-boot \
    /etc/rc4.d/S99dormouse-first-boot /etc/rc5.d/S99dormouse-first-boot \
    /etc/init.d/dormouse-first-boot "$state/attempts" "$state/waiting" "$state/restart"
  rm -rf "$state/pending"
  # systemd is not told: it ends a unit whose file it misses, and what is running is this one. Its next start misses nothing.
  rm -f "$state/first-boot"
}

all_steps() {
  step=configure
  configure || return 1
  step=install
  install_waiting || return 1
  step=configure
  configure || return 1
  step=audit
  nothing_is_outstanding
}

work() {
  restart=false
  [ ! -s "$state/restart" ] || restart=true
  attempts=$(($(cat "$state/attempts" 2>/dev/null || echo 0) + 1))
  echo "$attempts" >"$state/attempts"
  say "first-boot work begins, attempt $attempts"
  record running begin
  if ! all_steps; then
    say "$step failed; the next boot tries again"
    record failed "$step"
    return 1
  fi
  ask_for_restart
  record "done" end
  leave
}

mkdir -p /var/log/dormouse "$state" || exit 1
exit_file=$state/exit.$$
{
  work 2>&1
  echo "$?" >"$exit_file"
} | tee -a "$log"
code=$(cat "$exit_file")
rm -f "$exit_file"
exit "${code:-1}"
