#!/usr/bin/env bash
# A suspended machine caught up for real: a Debian guest under software emulation is saved with work in flight, restored
# without a way out to any network, caught up from a bundle on a CD, and judged.
#
#   catch-up.sh DORMOUSE LIBRARY-DIR MIRROR-DIR [SCRATCH-DIR]
#
# The machine is a copy of LIBRARY-DIR/build-01.qcow2's active state; MIRROR-DIR is that library's mirror. Nothing of
# either is written to. What the machine has in flight: a process of root's that counts into a file which no folder names any
# more, under a word that it has in a variable alone, and a file of random bytes in memory.
#
# First a bundle is tried in which one byte of one package is wrong; then one that brings a single package and needs no
# restart; then the script is killed with all that it started
# while dpkg unpacks the largest package; then it is run again, to its end; then the machine is started anew if the plan
# says so, and switched off. Prints key=value lines; ends with 1 when one is not as it must be:
#
#   boot_seconds, save_seconds, restore_seconds, catch_up_seconds, restart_seconds, seconds
#   power, verdict_before, patch      what `inspect`, `check` and `patch` say of the suspended machine
#   wrong_bundle                      "refused", and nothing of dpkg's or of ours was changed
#   one_package                       its exit code, and what the machine records
#   interrupted                       what dpkg says is half done after the kill
#   resumed                           "done", and nothing is half done
#   same_boot, work_*                 the work in flight after the restore, the kill and the second run
#   network_*                         the default route before, once it is given back, while it is kept away, and after
#   result, audit, kernel             the machine's record, dpkg's audit and the kernel, at the very end
#   shutdown, filesystem_check, verdict, seconds, outcome
#
# Scratch goes below SCRATCH-DIR (about 2 GiB), which is /tmp unless given. DORMOUSE_KEEP keeps it. Needs no root and no
# network.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/disk.sh
. "$here/parts/disk.sh"
# shellcheck source=SCRIPTDIR/parts/emulator.sh
. "$here/parts/emulator.sh"
# shellcheck source=SCRIPTDIR/parts/console.sh
. "$here/parts/console.sh"

if [ "$#" -lt 3 ] || [ "$#" -gt 4 ]; then
  echo "usage: ${0##*/} DORMOUSE LIBRARY-DIR MIRROR-DIR [SCRATCH-DIR]" >&2
  exit 2
fi
dormouse=$(realpath "$1") library=$(realpath "$2") mirror=$(realpath "$3") above=$(realpath "${4:-${TMPDIR:-/tmp}}")
for program in qemu-system-x86_64 qemu-img debugfs e2fsck jq python3 sha256sum; do
  command -v "$program" >/dev/null || { echo "catch-up: $program is missing; see prerequisites.sh" >&2; exit 2; }
done

work=$(mktemp -d "$above/catch-up.XXXXXX")
disk="$work/sleeper.qcow2" emulator=''
cleanup() {
  if [ -n "$emulator" ]; then
    cp "$console" "$work/console.log" 2>/dev/null || true
    stop_emulator
  fi
  if [ -n "${DORMOUSE_KEEP:-}" ]; then echo "catch-up: kept in $work" >&2; else rm -rf "$work"; fi
}
trap cleanup EXIT
passed=yes
report() { printf '%s=%s\n' "$1" "$2"; }
expect() { # expect KEY VALUE WANTED
  report "$1" "$2"
  [ "$2" = "$3" ] || { passed=no; echo "catch-up: $1 is not $3" >&2; }
}
fail() {
  echo "catch-up: $*" >&2
  for file in "${console:-}" "${shell:-}"; do [ ! -s "$file" ] || tail -n 20 "$file" >&2; done
  exit 1
}
lap() { # lap KEY: seconds since the last one
  report "$1" $((SECONDS - lapped))
  lapped=$SECONDS
}
lapped=0

# --- the machine -------------------------------------------------------------------------------------------------------
raw="$work/sleeper.raw"
qemu-img convert -U -f qcow2 -O raw "$library/build-01.qcow2" "$raw"
cat >"$work/interfaces" <<'END'
auto lo
iface lo inet loopback

allow-hotplug enp0s16
iface enp0s16 inet static
  address 10.0.2.15/24
  gateway 10.0.2.2
END
cat >"$work/in-flight.sh" <<'END'
# Counts once a second, under a word that it alone knows, into a file that no folder names any more.
word=$1 count=0
exec 3>/var/tmp/ledger
rm /var/tmp/ledger
trap 'echo "$count $word" >/run/in-flight.said' USR1
echo $$ >/run/in-flight.pid
while :; do
  count=$((count + 1))
  echo "$count $word" >&3
  sleep 1
done
END
cat >"$work/interrupt.sh" <<'END'
# Runs the script $1, and kills it with all that it started as soon as dpkg unpacks the package $2.
: >/run/first.said
setsid sh -c 'echo $$ >/run/first.pid; exec sh "$0"' "$1" >/run/first.said 2>&1 &
until grep -qs " status half-installed $2:" /var/log/dpkg.log; do
  kill -0 $! || exit 1
  sleep 0.5
done
kill -KILL "-$(cat /run/first.pid)"
wait
END
add_shell "$raw"
write_files "$raw" "$work/interfaces" /etc/network/interfaces "$work/in-flight.sh" /root/in-flight.sh \
  "$work/interrupt.sh" /root/interrupt.sh
e2fsck -fn "$(root_filesystem "$raw")" >/dev/null 2>&1 || fail "the edited filesystem is not clean"
qemu-img convert -f raw -O qcow2 "$raw" "$disk"
rm "$raw"

# start ARGUMENT...: the same machine each time, for saved memory fits no other. Its network leads nowhere.
start() {
  new_line "$work"
  start_emulator 384 "${shell_arguments[@]}" -drive "file=$disk,format=qcow2,if=virtio,cache=unsafe" \
    -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net,addr=0x10 \
    -device virtio-scsi-pci,id=scsi -drive if=none,id=cd,media=cdrom,readonly=on -device scsi-cd,drive=cd,bus=scsi.0 "$@"
}
# on_guest_must SECONDS COMMAND: as on_guest, and what fails there ends the test.
on_guest_must() { on_guest "$@" || fail "this failed in the machine: $2: ${answer:-}"; }
# await_end SECONDS: of the emulator
await_end() {
  local left=$1
  while kill -0 "$emulator" 2>/dev/null; do
    [ "$left" -gt 0 ] || return 1
    sleep 1
    left=$((left - 1))
  done
  cp "$console" "$work/console.log"
  stop_emulator
  close_line
  emulator=''
}
default_route() { on_guest_must 60 "ip route show default | grep -o 'via [0-9.]*' || echo none"; }
# hotplugged: the link is configured after the prompt is there.
# shellcheck disable=SC2016 # the guest's own
hotplugged() { on_guest_must 120 'for try in $(seq 60); do ip route show default | grep -q via && break; sleep 1; done'; }

start
open_shell 600 || fail "the machine did not come up"
hotplugged
lap boot_seconds
default_route
expect network_before "$answer" 'via 10.0.2.2'
word=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
on_guest_must 60 "(setsid sh /root/in-flight.sh $word </dev/null >/dev/null 2>&1 &)"
on_guest_must 60 "head -c 65536 /dev/urandom >/dev/shm/held; sha256sum </dev/shm/held"
held=$answer
on_guest_must 60 'cat /proc/sys/kernel/random/boot_id'
boot=$answer
sleep 3
# ledger: how many lines the process has written, and how many of them are not the next one under its word.
ledger() {
  # shellcheck disable=SC2016 # awk's and the guest's own variables
  on_guest_must 60 'awk -v word='"$word"' '\''$1 != NR || $2 != word { wrong++ } END { print NR, wrong + 0 }'\'' /proc/$(cat /run/in-flight.pid)/fd/3'
  lines=${answer% *} wrong=${answer#* }
}
ledger
if [ "$lines" -eq 0 ] || [ "$wrong" -ne 0 ]; then fail "the work in flight did not begin: $answer"; fi
counted=$lines
monitor 'savevm asleep'
monitor quit
await_end 300 || fail "the machine was not saved"
qemu-img snapshot -l "$disk" | grep -q ' asleep ' || fail "the machine was not saved"
lap save_seconds

# --- what is said of it while it sleeps ----------------------------------------------------------------------------------
as_of=$(sed -n 's/^Date: //p' "$mirror/dists/bookworm-security/InRelease" | head -1)
as_of=$(date -u -d "$as_of + 1 hour" +%Y-%m-%dT%H:%M:%SZ)
judged=(--baseline debian-security --repo "$mirror" --keyring "$mirror/keyring.gpg" --as-of "$as_of"
  --state "$work/state" --no-progress)
verdict() { jq -r '[.. | .verdict? | strings] | unique | join(",")'; }
# code COMMAND...: its exit code; what it writes goes to $work/out and $work/said
code() {
  local status=0
  "$@" >"$work/out" 2>"$work/said" || status=$?
  echo "$status"
}
status=$(code "$dormouse" inspect "$disk" --point asleep --format json --no-progress)
expect power "$(jq -r '.machines[0].points[0].power.state' "$work/out") $status" 'suspended 0'
status=$(code "$dormouse" check "$disk" --point asleep "${judged[@]}" --format json)
expect verdict_before "$(verdict <"$work/out") $status" 'non-compliant 1'
status=$(code "$dormouse" patch "$disk" --point asleep "${judged[@]}" -o "$work/never.qcow2")
[ ! -e "$work/never.qcow2" ] || status="$status, and wrote an image"
grep -q 'catch-up' "$work/said" || status="$status, and names no way out"
expect patch "$status" 2

# --- the bundle ----------------------------------------------------------------------------------------------------------
# make_bundle ISO PLAN FLAG...: the signed bundle as a CD, and its plan beside it.
"$dormouse" key generate "$work/key" >/dev/null
make_bundle() {
  local iso=$1 plan=$2
  shift 2
  [ "$(code "$dormouse" catch-up "$disk" --point asleep "${judged[@]}" "$@" --format json)" = 1 ] || fail "no plan: $(cat "$work/said")"
  cp "$work/out" "$plan"
  [ "$(code "$dormouse" catch-up "$disk" --point asleep "${judged[@]}" "$@" --bundle "$iso" --key "$work/key")" = 1 ] ||
    fail "no bundle: $(cat "$work/said")"
}
make_bundle "$work/bundle.iso" "$work/plan.json"
jq -r '.steps[].because? // [] | .[]' "$work/plan.json" | sed 's/^/plan_restarts_because=/'
largest=$(jq -r '[.steps[] | select(.step == "install")] | max_by(.size) | .package | split(":")[0]' "$work/plan.json")
report packages "$(jq '[.steps[] | select(.step == "install")] | length' "$work/plan.json")"
restarts=$(jq '[.steps[] | select(.step == "reboot")] | length' "$work/plan.json")
# The last package of the plan alone; and all of them again, with one byte of the last one's changed.
last=$(jq -r '[.steps[] | select(.step == "install")] | last | .file' "$work/plan.json")
make_bundle "$work/one.iso" "$work/one.json" --only "${last%%_*}"
[ "$(jq '[.steps[] | select(.step == "reboot")] | length' "$work/one.json")" -eq 0 ] || fail "$last alone asks for a restart"
python3 - "$work/bundle.iso" "$(find "$mirror/pool" -name "$last")" "$work/wrong.iso" <<'END'
import sys
disc = bytearray(open(sys.argv[1], "rb").read())
package = open(sys.argv[2], "rb").read()
at = disc.find(package)
assert at > 0 and disc.find(package, at + 1) < 0
disc[at + len(package) // 2] ^= 1
open(sys.argv[3], "wb").write(disc)
END
lap bundle_seconds

# --- the machine wakes -----------------------------------------------------------------------------------------------------
start -loadvm asleep
on_guest_must 120 'cat /proc/sys/kernel/random/boot_id'
expect same_boot "$([ "$answer" = "$boot" ] && echo yes || echo no)" yes
lap restore_seconds
# work_goes_on KEY: the process counts on where it was, and the file in memory is what it was.
work_goes_on() {
  local key=$1 found=lost pid
  # shellcheck disable=SC2016 # the guest's own
  on_guest_must 60 'cat /run/in-flight.pid; kill -USR1 "$(cat /run/in-flight.pid)"; sleep 3; cat /run/in-flight.said; rm /run/in-flight.said'
  pid=$(head -n 1 <<<"$answer")
  case $(tail -n 1 <<<"$answer") in [1-9]*" $word") ;; *) pid='' ;; esac
  ledger
  on_guest_must 60 'sha256sum </dev/shm/held; cat /proc/sys/kernel/random/boot_id'
  if [ -n "$pid" ] && [ "$wrong" -eq 0 ] && [ "$lines" -gt "$counted" ] && [ "$answer" = "$held"$'\n'"$boot" ]; then
    found=alive
  fi
  report "${key}_counted" "$lines"
  counted=$lines
  expect "$key" "$found" alive
}
work_goes_on work_restored

# insert ISO: the medium goes into the drive that was empty when the machine was saved, and is mounted.
insert() {
  monitor "change cd $1 raw"
  on_guest_must 120 'for try in 1 2 3 4 5 6 7 8 9; do mount -t iso9660 -o ro /dev/disk/by-label/DORMOUSE /mnt && break; sleep 2; done; test -f /mnt/catch-up.sh'
}
remove() {
  on_guest_must 60 'umount /mnt'
  monitor 'eject -f cd'
  sleep 3
}
digest_of_state() { on_guest_must 120 'cat /var/lib/dpkg/status /var/log/dpkg.log | sha256sum; ls /var/lib/dormouse 2>&1; ip -o link show up | wc -l'; }
insert "$work/wrong.iso"
digest_of_state
before=$answer
status=0
on_guest 600 'sh /mnt/catch-up.sh </dev/null' || status=$?
said=$answer
digest_of_state
if [ "$status" -eq 1 ] && [ "$answer" = "$before" ] && grep -qF "$last is not the package file planned" <<<"$said"; then
  expect wrong_bundle refused refused
else
  expect wrong_bundle "exit code $status: $said" refused
fi
remove
lap wrong_bundle_seconds

insert "$work/one.iso"
status=0
on_guest 600 'sh /mnt/catch-up.sh </dev/null' || status=$?
[ "$status" -eq 0 ] || echo "$answer" >&2
on_guest_must 60 'jq -r "\"\(.outcome) \(.reboot)\"" /var/lib/dormouse/catch-up/result.json'
expect one_package "$status $answer" '0 done no'
default_route
expect network_back "$answer" 'via 10.0.2.2'
remove
lap one_package_seconds

insert "$work/bundle.iso"
on_guest_must 900 "sh /root/interrupt.sh /mnt/catch-up.sh $largest"
on_guest_must 60 "dpkg-query -W -f '\${db:Status-Status} \${db:Status-Eflag}\n' $largest"
expect interrupted "$answer" 'half-installed reinstreq'
on_guest_must 60 'cat /sys/class/net/*/operstate | sort | uniq -c | tr -s " \n" " "; cat /run/first.said'
report interrupted_said "$(tr '\n' ' ' <<<"$answer")"
default_route
expect network_during "$answer" none
work_goes_on work_interrupted
lap interrupted_seconds

status=0
on_guest 1800 'sh /mnt/catch-up.sh </dev/null' || status=$?
[ "$status" -eq 0 ] || on_guest 60 'tail -n 40 /var/lib/dormouse/catch-up/log' || true
[ "$status" -eq 0 ] || echo "$answer" >&2
on_guest_must 60 'jq -r .outcome /var/lib/dormouse/catch-up/result.json; dpkg --audit'
expect resumed "$status $answer" '0 done'
lap catch_up_seconds
work_goes_on work_caught_up

if [ "$restarts" -gt 0 ]; then
  default_route
  expect network_caught_up "$answer" none
  remove
  # The emulator ends where the machine would start anew.
  printf 'systemctl reboot\n' >&"$keys"
  await_end 300 || fail "the machine does not go down to start anew"
  start
  open_shell 900 || fail "the machine did not come up again"
  hotplugged
  lap restart_seconds
  status=0
  on_guest 300 'sh /var/lib/dormouse/catch-up/catch-up.sh </dev/null' || status=$?
  expect restart_seen "$status" 0
  on_guest_must 60 'uname -r'
  expect kernel "$answer" "$(jq -r '.steps[].package? // empty' "$work/plan.json" | sed -n 's/^linux-image-\([0-9][^:]*\):.*/\1/p')"
fi
default_route
expect network_after "$answer" 'via 10.0.2.2'
on_guest_must 60 'jq -r "\"\(.outcome) \(.reboot)\"" /var/lib/dormouse/catch-up/result.json'
expect result "$answer" "done $([ "$restarts" -gt 0 ] && echo "done" || echo no)"
on_guest_must 120 'dpkg --audit'
expect audit "$answer" ''
printf 'systemctl poweroff\n' >&"$keys"
if await_end 300; then expect shutdown clean clean; else expect shutdown 'not in time' clean; fi
lap shutdown_seconds

# --- its disk ----------------------------------------------------------------------------------------------------------------
[ -z "$emulator" ] || { stop_emulator; emulator=''; }
status=$(code "$dormouse" check "$disk" "${judged[@]}" --format json)
expect verdict "$(verdict <"$work/out") $status" 'compliant 0'
qemu-img check -q "$disk" || { passed=no; echo "catch-up: qemu-img finds fault with the disk" >&2; }
qemu-img convert -f qcow2 -O raw "$disk" "$raw"
if e2fsck -fn "$(root_filesystem "$raw")" >"$work/e2fsck" 2>&1; then
  expect filesystem_check clean clean
else
  expect filesystem_check "$(grep -vE '^(Pass|e2fsck)' "$work/e2fsck" | head -n 5 | tr '\n' ' ')" clean
fi
debugfs -R 'cat /var/lib/dormouse/catch-up/result.json' "$(root_filesystem "$raw")" >"$work/result.json" 2>/dev/null
expect result_on_disk "$(jq -r '.schema + " " + .outcome' "$work/result.json")" 'dormouse/caught-up/v1 done'
report seconds "$SECONDS"
if [ "$passed" = yes ]; then
  report outcome passed
else
  report outcome failed
  exit 1
fi
