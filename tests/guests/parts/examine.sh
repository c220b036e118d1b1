#!/usr/bin/env bash
# The part of check-patched.sh that needs the machine's files with their owners, and a chroot. Runs inside the
# namespace that parts/namespace.sh makes, so every mount goes when it ends.
#
#   examine.sh RAW-DISK MIRROR SCRATCH
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/disk.sh
. "$here/disk.sh"
# shellcheck source=SCRIPTDIR/namespace.sh
. "$here/namespace.sh"

raw=$1 mirror=$2 scratch=$3
root="$scratch/root"
mkdir "$root"
device=''
cleanup() {
  leave_chroot "$root" 2>/dev/null || true
  umount "$root/run" 2>/dev/null || true
  if [ -n "$device" ]; then
    umount "$root" 2>/dev/null || umount -l "$root" || true
    losetup -d "$device" || true
  fi
}
trap cleanup EXIT

clean=yes
report() { printf '%s=%s\n' "$1" "$2"; }
fault() {
  report "$1" "$2"
  clean=no
}
# report_lines KEY: each line of stdin under KEY
report_lines() { sed -e '/^[[:space:]]*$/d' -e "s/^/$1=/"; }

# Only the host's own root may attach a loop device; in a user namespace this fails, whatever `id` says.
if device=$(losetup --find --show --offset $((root_start * mib)) "$raw" 2>/dev/null); then
  mount -t ext4 "$device" "$root"
else
  device=''
  # debugfs reports every device node and owner it may not make here; what matters is judged by dpkg below.
  debugfs -R "rdump / $root" "$(root_filesystem "$raw")" >/dev/null 2>&1 || true
fi
[ -s "$root/var/lib/dpkg/status" ] || { echo 'check-patched: the image has no dpkg status file' >&2; exit 1; }

state_count() { dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${db:Status-Status}\n' | grep -cx "$1" || true; }
leftovers() { find "$root/etc" -xdev -name "*.dpkg-$1" -printf '/etc/%P\n' | sort; }

report packages "$(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${db:Status-Abbrev}\n' | grep -c '^.[^nc]' || true)"
report unpacked "$(state_count unpacked)"
report triggers_pending "$(state_count 'triggers-\(pending\|awaited\)')"
dpkg --root="$root" --audit | report_lines audit
{ dpkg --root="$root" --verify || true; } | report_lines verify
leftovers dist | report_lines dpkg_dist
leftovers new | report_lines dpkg_new

mount -t tmpfs tmpfs "$root/run"
prepare_chroot "$root"
started=$(date +%s)
# What waits for the first boot is installed by the first boot's own script.
finish=(dpkg --force-confdef --force-confold --configure --pending)
[ ! -s "$root/var/lib/dormouse/waiting" ] || finish=(sh /var/lib/dormouse/first-boot)
if in_chroot "$root" "${finish[@]}" </dev/null >"$scratch/configure" 2>&1; then
  report configure "done"
else
  fault configure failed
  tail -n 30 "$scratch/configure" >&2
fi
report configure_seconds $(($(date +%s) - started))

# Wanted (install or hold) means installed; anything else that is not gone is outstanding.
dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${db:Status-Want} ${db:Status-Status} ${db:Status-Eflag} ${binary:Package}\n' |
  awk '!($1 ~ /^(install|hold)$/ && $2 == "installed" && $3 == "ok") &&
       !($1 ~ /^(deinstall|purge|unknown)$/ && $2 ~ /^(config-files|not-installed)$/ && $3 == "ok") { print $4 " " $2 " " $3 }' \
    >"$scratch/outstanding"
report_lines outstanding <"$scratch/outstanding"
[ ! -s "$scratch/outstanding" ] || clean=no
dpkg --root="$root" --audit | tee "$scratch/audit" | report_lines audit_after
[ ! -s "$scratch/audit" ] || clean=no
{ dpkg --root="$root" --verify || true; } | report_lines verify_after

# The machine's own apt, the given mirror, nothing else. The indices' age is the mirror's business, not the machine's.
mkdir -p "$root/run/mirror" "$root/run/apt/lists/partial" "$root/run/apt/archives/partial" "$root/run/apt/parts"
mount --bind "$mirror" "$root/run/mirror"
for suite in "$mirror"/dists/*; do
  [ -f "$suite/InRelease" ] || continue
  echo "deb [signed-by=/run/mirror/keyring.gpg] file:/run/mirror ${suite##*/} main" >>"$root/run/apt/sources.list"
done
apt=(apt-get -q -o Dir::Etc::sourcelist=/run/apt/sources.list -o Dir::Etc::sourceparts=/run/apt/parts
  -o Dir::State::lists=/run/apt/lists -o Dir::Cache=/run/apt -o Acquire::Check-Valid-Until=false
  -o Acquire::Languages=none -o APT::Sandbox::User=)
if in_chroot "$root" "${apt[@]}" update </dev/null >"$scratch/apt" 2>&1 &&
  in_chroot "$root" "${apt[@]}" -s dist-upgrade </dev/null >"$scratch/simulation" 2>>"$scratch/apt"; then
  numbers=$(sed -nE 's/^([0-9]+) upgraded, ([0-9]+) newly installed, ([0-9]+) to remove.*/\1 \2 \3/p' "$scratch/simulation")
  read -r upgraded new removed <<<"$numbers"
  report apt_upgraded "$upgraded"
  report apt_new "$new"
  report apt_removed "$removed"
  grep '^Inst ' "$scratch/simulation" | report_lines apt_would || true
  [ "$upgraded $new $removed" = '0 0 0' ] || clean=no
else
  fault apt failed
  tail -n 20 "$scratch/apt" >&2
fi
umount "$root/run/mirror"
umount "$root/run"

[ "$clean" = yes ]
