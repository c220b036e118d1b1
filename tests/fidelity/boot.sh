#!/usr/bin/env bash
# Boots one patched server under software emulation, waits for its first-boot work and a login prompt, switches it off,
# and reads its disk afterwards.
#
#   boot.sh DORMOUSE CORPUS-DIR RELEASE [TIMEOUT-SECONDS]
#
# CORPUS-DIR/RELEASE/patched.qcow2 is booted if it is there (measure.sh leaves it), else it is made. The machine writes to
# CORPUS-DIR/RELEASE/booted.qcow2, which is removed at the end unless DORMOUSE_KEEP is set. The image under test is what
# `dormouse patch` made, unchanged: nothing is masked or switched off in it. Prints key=value lines:
#
#   first_boot_seconds, login_seconds   from the emulator's start
#   first_boot                          the outcome that the machine recorded
#   shutdown                            "clean", or "killed" where it did not end by itself
#   audit, outstanding                  a line of `dpkg --audit`; a package that is not as it should be
#   left                                a file of the first boot's work that is still there
#   filesystem_check                    "clean", or what e2fsck says
#   verdict                             what `dormouse check` says of the disk afterwards
#   result                              "passed" or "failed"
#
# DORMOUSE_BOOT_CLOCK=instructions makes the machine's time the number of instructions that it has executed: several
# times slower, but where the host is busy no deadline in the guest passes, and its kernel does not give up early ("IO-APIC
# + timer doesn't work").
#
# CORPUS-DIR/RELEASE/boot.txt gets the same lines, console.log the console. Needs /dev/fuse, but not root.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
guests="$here/../guests"
# shellcheck source=SCRIPTDIR/../guests/parts/disk.sh
. "$guests/parts/disk.sh"
# shellcheck source=SCRIPTDIR/../guests/parts/mounted.sh
. "$guests/parts/mounted.sh"
# shellcheck source=SCRIPTDIR/../guests/parts/emulator.sh
. "$guests/parts/emulator.sh"

if [ "$#" -lt 3 ] || [ "$#" -gt 4 ]; then
  echo "usage: ${0##*/} DORMOUSE CORPUS-DIR RELEASE [TIMEOUT-SECONDS]" >&2
  exit 2
fi
dormouse=$(realpath "$1") folder=$(realpath "$2/$3") release=$3 timeout=${4:-1800}
mirror="$folder/mirror" disk="$folder/booted.qcow2"
for program in qemu-system-x86_64 qemu-storage-daemon debugfs e2fsck jq dpkg; do
  command -v "$program" >/dev/null || { echo "boot: $program is missing; see guests/prerequisites.sh" >&2; exit 2; }
done

emulator='' scratch=$(mktemp -d)
cleanup() {
  if [ -n "$emulator" ]; then stop_emulator; fi
  unmount_image
  rm -rf "$scratch"
  [ -n "${DORMOUSE_KEEP:-}" ] || rm -f "$disk"
}
trap cleanup EXIT
# start_counted MEMORY-MIB QEMU-ARGUMENT...: as start_emulator, but the machine's time is the number of instructions it
# has executed, so that a busy host makes it late and breaks no deadline in it.
start_counted() {
  local memory=$1
  shift
  emulator_folder=$(mktemp -d)
  console="$emulator_folder/console"
  : >"$console"
  mkfifo "$emulator_folder/monitor"
  qemu-system-x86_64 -machine q35 -accel tcg,thread=single -icount shift=1,sleep=off -cpu max -smp 1 -m "$memory" \
    -bios "$(firmware)" -display none -nodefaults -no-reboot -net none \
    -chardev "file,id=console,path=$console" -serial chardev:console -monitor stdio "$@" \
    <"$emulator_folder/monitor" >"$emulator_folder/monitor.log" 2>&1 &
  emulator=$!
  exec {monitor_input}>"$emulator_folder/monitor"
}

: >"$folder/boot.txt"
passed=yes
report() { printf '%s=%s\n' "$1" "$2" | tee -a "$folder/boot.txt"; }
expect() { # expect KEY VALUE WANTED
  report "$1" "$2"
  [ "$2" = "$3" ] || passed=no
}

as_of=$(sed -n 's/^Date: //p' "$mirror/dists/$release-security/InRelease" | head -1)
as_of=$(date -u -d "$as_of + 1 hour" +%Y-%m-%dT%H:%M:%SZ)
judged=(--baseline debian-security --repo "$mirror" --keyring "$mirror/keyring.gpg" --as-of "$as_of"
  --state "$scratch/state" --no-progress)
if [ ! -f "$folder/patched.qcow2" ]; then
  "$dormouse" patch "$folder/server.qcow2" "${judged[@]}" --format json -o "$folder/patched.qcow2" \
    >"$folder/patched.json" || [ -f "$folder/patched.qcow2" ]
fi
rm -f "$disk"
qemu-img create -q -f qcow2 -b "$folder/patched.qcow2" -F qcow2 "$disk"

report release "$release"
machine=start_emulator
[ "${DORMOUSE_BOOT_CLOCK:-host}" = host ] || machine=start_counted
"$machine" 1536 -drive "file=$disk,format=qcow2,if=virtio,cache=unsafe"
started=$SECONDS asked=no
if await_console 'removing the first-boot work|the next boot tries again' "$timeout"; then
  report first_boot_seconds $((SECONDS - started))
else
  passed=no
fi
if [ "$passed" = yes ] && await_console 'login:' "$timeout"; then
  report login_seconds $((SECONDS - started))
  # Services that start late come up before the power key, for a start that is cut off takes long to stop.
  sleep 20
  asked=yes
  monitor system_powerdown
  left=600
  while [ "$left" -gt 0 ] && kill -0 "$emulator" 2>/dev/null; do
    sleep 1
    left=$((left - 1))
  done
else
  passed=no
fi
if [ "$asked" = yes ] && ! kill -0 "$emulator" 2>/dev/null; then expect shutdown clean clean; else expect shutdown killed clean; fi
tr -d '\r' <"$console" >"$folder/console.log"
stop_emulator
emulator=''

mounted_folder=$(mktemp -d)
export_qcow2 "$disk" off
root=$(root_filesystem "$exported")
# debugfs may not give files to others here, and says so of each.
debugfs -R "rdump /var/lib/dpkg $scratch" "$root" >/dev/null 2>&1 || true
debugfs -R 'cat /var/lib/dormouse/first-boot.json' "$root" >"$scratch/first-boot.json" 2>/dev/null || true
expect first_boot "$(jq -r .outcome "$scratch/first-boot.json" 2>/dev/null || echo 'no record')" "done"
dpkg --admindir="$scratch/dpkg" --audit >"$scratch/audit" 2>&1 || passed=no
expect audit "$(tr '\n' ' ' <"$scratch/audit")" ''
dpkg-query --admindir="$scratch/dpkg" -W -f '${db:Status-Status} ${db:Status-Eflag} ${binary:Package}\n' >"$scratch/states"
installed=$(grep -c '^Status: install ok' "$folder/server.status")
report packages "$(wc -l <"$scratch/states")"
# The list was really read: nothing here removes packages.
[ "$(wc -l <"$scratch/states")" -ge "$installed" ] || passed=no
expect outstanding "$(grep -vE '^(installed|config-files) ok ' "$scratch/states" | head -n 5 | tr '\n' ' ')" ''
left=''
for path in /var/lib/dormouse/first-boot /var/lib/dormouse/pending /var/lib/dormouse/waiting \
  /etc/systemd/system/dormouse-first-boot.service \
  /etc/systemd/system/multi-user.target.wants/dormouse-first-boot.service; do
  if debugfs -R "stat $path" "$root" 2>/dev/null | grep -q '^Inode:'; then left+="$path "; fi
done
expect left "$left" ''
if e2fsck -fn "$root" >"$scratch/e2fsck" 2>&1; then
  expect filesystem_check clean clean
else
  expect filesystem_check "$(grep -vE '^(Pass|e2fsck)' "$scratch/e2fsck" | head -n 5 | tr '\n' ' ')" clean
fi
unmount_image

"$dormouse" check "$disk" "${judged[@]}" --format json >"$scratch/check.json" 2>"$scratch/said" || passed=no
expect verdict "$(jq -r '[.. | .verdict? | strings] | unique | join(",")' "$scratch/check.json")" compliant
if [ "$passed" = yes ]; then
  report result passed
else
  report result failed
  cat "$scratch/said" >&2
  tail -n 40 "$folder/console.log" >&2
  exit 1
fi
