#!/usr/bin/env bash
# The whole program on real machines, held against programs that nobody here wrote: qemu-img, e2fsck, debugfs, dpkg,
# apt, openssl, sha256sum, sqlite3. A missing one fails. Needs the demo's library and mirror.
#
#   scenario.sh DORMOUSE DEMO-DIR
# shellcheck disable=SC2016 # scripts in single quotes get what they need as arguments
set -euo pipefail
here=$(dirname "$(realpath "$0")")
dormouse=$(realpath "$1")
demo=$(realpath "$2")
library="$demo/library" mirror="$demo/mirror"
definition="$here/../pipelines/definitions/demo.toml"
for program in qemu-img e2fsck debugfs dpkg-query openssl sha256sum sqlite3 jq python3 xorriso shellcheck ansible-playbook; do
  command -v "$program" >/dev/null || { echo "scenario: $program is missing; see guests/prerequisites.sh" >&2; exit 2; }
done
work=$(mktemp -d "$demo/scenario.XXXXXX")
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok   $1"; }
bad() { failed=$((failed + 1)); echo "FAIL $1" >&2; }
check() { local name=$1; shift; if "$@"; then ok "$name"; else bad "$name"; fi; }
# ends CODE COMMAND...: whether the command ends with that exit code; what it said is kept in $work/said.
ends() {
  local wanted=$1 status=0; shift
  "$@" >"$work/out" 2>"$work/said" || status=$?
  [ "$status" -eq "$wanted" ] || { echo "  exit code $status, not $wanted: $*" >&2; head -5 "$work/said" >&2; return 1; }
}
says() { grep -qF -- "$1" "$work/said" || { echo "  not said: $1" >&2; head -5 "$work/said" >&2; return 1; }; }
# An instant at which the mirror is valid, the same for every run here.
as_of=$(sed -n 's/^Date: //p' "$mirror/dists/bookworm-security/InRelease" | head -1)
as_of=$(date -u -d "$as_of + 1 hour" +%Y-%m-%dT%H:%M:%SZ)
judged=(--baseline debian-security --repo "$mirror" --keyring "$mirror/keyring.gpg" --as-of "$as_of")
# pipeline NAME [FLAG...]: the demo pipeline with a state and results of that name, in the array $command.
pipeline() {
  local name=$1; shift
  command=("$dormouse" run "$definition" "$library" --as-of "$as_of" --key "$work/key.pem" --format json --no-progress
    --state "$work/$name.state" --output "$work/$name" "$@")
}
run() { pipeline "$@" && "${command[@]}"; }
sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }

sums "$library" >"$work/before"
"$dormouse" key generate "$work/key.pem" >/dev/null

# --- the run -------------------------------------------------------------------------------------------------
check "the run ends with 3, for one image is truncated" ends 3 run one --jobs 1
check "it says so" says "incomplete"
check "the answer on standard output is one JSON document of its schema" \
  [ "$(jq '.schema == "dormouse/run/v1" and (.machines | length) == 6' "$work/out")" = true ]
check "every cold machine that needs it was patched" \
  [ "$(jq '[.machines[].points[] | select(.after != null)] | length' "$work/one/report.json")" -eq 5 ]
check "every patched machine is at the baseline, but for the first boot's work where there is some" \
  [ "$(jq -r '[.machines[].points[] | select(.after != null) |
      .after == (if (.left // [] | length) > 0 then "pending" else "compliant" end)] | unique | join(",")' \
    "$work/one/report.json")" = true ]
check "what was injected is configured, or says which script must run and why" \
  [ "$(jq -s '[.[].packages[] | select(.decision.is == "inject") |
      .configured.is == "done" or (.configured.is == "left" and (.configured.why | length) > 10)] | unique' -c \
    "$work/one/injections/"*.json)" = '[true]' ]
check "at least nine of ten scripts were interpreted" \
  [ "$(jq -s '[.[] | .packages[].scripts[], (.triggers // [] | .[].scripts // [] | .[])] |
      (map(select(.verdict.is == "interpreted")) | length) >= length * 0.9' "$work/one/injections/"*.json)" = true ]
check "points that must not be touched got a catch-up plan" \
  [ "$(find "$work/one/catch-up" -name '*.sh' | wc -l)" -eq 2 ]
check "the truncated image is indeterminate, never compliant" \
  [ "$(jq -r '.machines[] | select(.machine == "broken-01") | .points[0].verdict' "$work/one/report.json")" = indeterminate ]
check "the state answers sqlite3" \
  [ "$(sqlite3 "$work/one.state/dormouse.db" 'select count(*) from restore_points')" -eq 8 ]
check "the page fetches nothing and runs no script" \
  bash -c "! grep -qE '<script|src=|@import|https?://' '$work/one/report.html'"

# --- determinism, resuming -------------------------------------------------------------------------------------
ends 3 run eight --jobs 8 || bad "a run with eight jobs"
sums "$work/one" >"$work/one.sums"
same() { # same NAME: the results of a run are byte for byte those of the first, evidence of other paths aside
  sums "$work/$1" >"$work/$1.sums"
  diff "$work/one.sums" "$work/$1.sums" >"$work/diff" && return
  head -5 "$work/diff" >&2
  return 1
}
check "one job and eight leave identical bytes" same eight
for seconds in 0.3 1.5 4 8; do
  pipeline killed --jobs 2
  "${command[@]}" >/dev/null 2>&1 &
  child=$!
  sleep "$seconds"
  kill -9 "$child" 2>/dev/null || true
  wait "$child" 2>/dev/null || true
  check "killed after $seconds s, nothing half-written stands under a final name" \
    bash -c "! find '$work/killed' -name '*.json' -size 0 2>/dev/null | grep -q ."
done
ends 3 run killed --jobs 2 || bad "the run that goes on"
check "a run killed four times ends in the same results" same killed
check "no partial file is left" bash -c "! find '$work' -name '*.partial' -o -name '.dormouse-*' | grep -q ."
check "running again remembers everything" ends 3 run one --jobs 2
check "and changes nothing" same one

# --- the patched machines --------------------------------------------------------------------------------------
for name in web-base web-01 web-02 db-01 build-01; do
  image="$work/one/images/$name.qcow2"
  check "$name: qemu-img check" ends 0 qemu-img check -q "$image"
  "$here/guests/check-patched.sh" "$image" "$mirror" >"$work/$name.check" 2>"$work/said" || true
  check "$name: e2fsck, dpkg --audit, dpkg --configure -a and apt say it is as dpkg would leave it" \
    grep -qx 'result=clean' "$work/$name.check"
  grep -qx 'result=clean' "$work/$name.check" || { tail -8 "$work/$name.check"; tail -3 "$work/said"; } >&2
done

check "patch --at-first-boot puts all packages in and says that they wait" ends 1 "$dormouse" patch "$library/db-01.raw" \
  "${judged[@]}" --at-first-boot --format json -o "$work/waiting.qcow2"
check "none is unpacked" [ "$(jq '[.injection.packages[].decision.is] | unique == ["defer"]' "$work/out")" = true ]
"$here/guests/check-patched.sh" "$work/waiting.qcow2" "$mirror" >"$work/waiting.check" 2>"$work/said" || true
check "its first boot installs them, round by round, and apt has nothing left to do" grep -qx 'result=clean' "$work/waiting.check"
grep -qx 'result=clean' "$work/waiting.check" || { tail -8 "$work/waiting.check"; tail -3 "$work/said"; } >&2

# --- inventories against dpkg ----------------------------------------------------------------------------------
for status in "$demo"/library.facts/status/*.status; do
  name=$(basename "$status" .status) machine=${name%%@*} point=active
  [ "$machine" = "$name" ] || point=${name#*@}
  image=$(ls "$library/$machine".*)
  mkdir -p "$work/admin/updates" "$work/admin/info" && cp "$status" "$work/admin/status"
  dpkg-query --admindir "$work/admin" -W -f '${Package}\t${Version}\t${Architecture}\n' | sort >"$work/dpkg.list"
  "$dormouse" inventory "$image" --point "$point" --format json |
    jq -r '.inventories[0].packages[] | [.name, .version, .architecture] | @tsv' | sort >"$work/ours.list"
  check "$name: the packages are those of dpkg-query" cmp -s "$work/dpkg.list" "$work/ours.list"
done
check "a file of a guest is what debugfs reads" bash -c '
  qemu-img convert -O raw "$1/web-01.qcow2" "$2/web-01.raw" &&
  cmp -s <("$3" cat "$1/web-01.qcow2:/etc/nginx/nginx.conf") \
    <(debugfs -R "cat /etc/nginx/nginx.conf" "$2/web-01.raw?offset=68157440" 2>/dev/null)' - "$library" "$work" "$dormouse"
rm -f "$work/web-01.raw"

# --- evidence --------------------------------------------------------------------------------------------------
mapfile -t evidence < <(find "$work/one/evidence" -name '*.dsse.json' | sort)
check "evidence verifies with the public key alone" \
  ends 0 "$dormouse" verify "${evidence[@]}" --key "$work/key.pem.pub" --library "$library"
envelope="$work/one/evidence/web-01/active.dsse.json"
python3 - "$envelope" "$work" <<'END'
import base64, json, sys
envelope = json.load(open(sys.argv[1]))
payload = base64.b64decode(envelope["payload"])
kind = envelope["payloadType"].encode()
signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
open(sys.argv[2] + "/signed", "wb").write(signed)
open(sys.argv[2] + "/signature", "wb").write(base64.b64decode(envelope["signatures"][0]["sig"]))
open(sys.argv[2] + "/statement", "wb").write(payload)
END
check "openssl alone verifies the signature" ends 0 openssl pkeyutl -verify -rawin -pubin -inkey "$work/key.pem.pub" \
  -in "$work/signed" -sigfile "$work/signature"
digest() { jq -r --arg name "$1" '.subject[] | select(.name == $name) | .digest.sha256' "$work/statement"; }
check "every file of the chain is a subject, by sha256sum" bash -c '
  [ "$1" = "$(sha256sum <"$3/web-01.qcow2" | cut -d" " -f1)" ] && [ "$2" = "$(sha256sum <"$3/web-base.qcow2" | cut -d" " -f1)" ]' \
  - "$(digest source:web-01.qcow2)" "$(digest source:web-base.qcow2)" "$library"
check "the restore point is a subject, by qemu-img and sha256sum" bash -c '
  qemu-img convert -O raw "$2/web-01.qcow2" "$3/point.raw" &&
  [ "$1" = "$(sha256sum <"$3/point.raw" | cut -d" " -f1)" ]' - "$(digest point:web-01@active)" "$library" "$work"
rm -f "$work/point.raw"
cp -r "$work/one" "$work/tampered"
printf x | dd of="$work/tampered/images/web-01.qcow2" bs=1 seek=100000 conv=notrunc status=none
check "a changed image fails its evidence" \
  ends 1 "$dormouse" verify "$work/tampered/evidence/web-01/active.dsse.json" --key "$work/key.pem.pub"
jq -c '.payload |= (.[0:1000] + "A" + .[1001:])' "$envelope" >"$work/tampered/evidence/web-01/active.dsse.json"
check "a changed statement fails its signature" \
  ends 1 "$dormouse" verify "$work/tampered/evidence/web-01/active.dsse.json" --key "$work/key.pem.pub"
rm -rf "$work/tampered"

# --- the bundle of the machines that wake ----------------------------------------------------------------------
mkdir "$work/bundle"
xorriso -osirrox on -indev "$work/one/catch-up/bundle.iso" -extract / "$work/bundle" >"$work/said" 2>&1 || bad "xorriso reads the bundle"
chmod -R u+w "$work/bundle"
check "the bundle's files are those of its digests" \
  bash -c "cd '$work/bundle' && sha256sum --check --quiet --strict SHA256SUMS"
check "its manifest is signed, and every file is under the signature" ends 0 "$dormouse" verify --format json \
  "$work/bundle/manifest.dsse.json" --key "$work/key.pem.pub"
check "none is left out" [ "$(jq '.evidence[0] | .subjects == .compared' "$work/out")" = true ]
check "it has both plans, and no package twice" [ "$(jq '(.plans | length) == 2 and
    ([.packages[].digest] | length == (unique | length)) and
    (.packages as $all | all(.plans[].packages[]; $all[.] != null))' "$work/bundle/manifest.json")" = true ]
check "the bundle itself is attested" ends 0 "$dormouse" verify "$work/one/evidence/bundle.dsse.json" \
  --key "$work/key.pem.pub" --results "$work/one"
for plan in "$work"/bundle/plans/*/*.sh; do
  name=${plan#"$work/bundle/plans/"} name=${name%.sh}
  check "$name: shellcheck passes its script" ends 0 shellcheck --shell=sh "$plan"
  check "$name: Ansible takes its playbook" ends 0 env ANSIBLE_LOCALHOST_WARNING=false \
    ansible-playbook --syntax-check -i localhost, "${plan%.sh}.ansible.yaml"
  check "$name: cloud-init takes its user data" \
    ends 0 "$here/guests/cloud-init-schema.sh" "$demo/schema" "${plan%.sh}.cloud-init.yaml"
done
check "a folder is the same bundle" ends 1 "$dormouse" catch-up "$library/build-01.qcow2" --point suspended-2026 "${judged[@]}" \
  --bundle "$work/folder" --key "$work/key.pem" --format json
check "with the same package files" bash -c "cd '$work/folder/packages' && for file in *; do cmp -s \"\$file\" '$work/bundle/packages/'\"\$file\" || exit 1; done"
qemu-img create -q -f qcow2 "$work/empty.qcow2" 64M
check "a machine that cannot be planned for keeps no other from its bundle" ends 3 "$dormouse" catch-up "$work/empty.qcow2" \
  "$library/build-01.qcow2" --point active "${judged[@]}" --bundle "$work/rest" --key "$work/key.pem" --format json
check "which has the plan of that one alone" [ "$(jq -r '[.plans[].at.machine] | join(" ")' "$work/rest/manifest.json")" = build-01 ]
check "a bundle that is there is not written over" ends 2 "$dormouse" catch-up "$library/build-01.qcow2" \
  --point suspended-2026 "${judged[@]}" --bundle "$work/folder" --key "$work/key.pem"
check "without a key there is no bundle" ends 2 "$dormouse" catch-up "$library/build-01.qcow2" \
  --point suspended-2026 "${judged[@]}" --bundle "$work/unsigned"

# --- what must be refused --------------------------------------------------------------------------------------
check "a suspended point is never patched" \
  ends 2 "$dormouse" patch "$library/build-01.qcow2" --point suspended-2026 "${judged[@]}" -o "$work/never.qcow2"
check "and the way out is named" says "catch-up"
check "nothing was written for it" [ ! -e "$work/never.qcow2" ]
check "a cold snapshot becomes a whole image" \
  ends 0 "$dormouse" patch "$library/build-01.qcow2" --point release --standalone "${judged[@]}" -o "$work/release.qcow2"
check "which qemu-img finds sound and without a backing file" bash -c '
  qemu-img check -q "$1" && ! qemu-img info "$1" | grep -q "backing file"' - "$work/release.qcow2"
rm -f "$work/release.qcow2"
truncate -s 64M "$work/guest.raw" && qemu-img create -q -f qcow2 "$work/header.qcow2" 64M
dd if="$work/header.qcow2" of="$work/guest.raw" conv=notrunc status=none
check "a raw disk whose guest wrote a qcow2 header is not followed" ends 3 "$dormouse" inspect "$work/guest.raw"
check "and is named" says "guest.raw"
check "with the way to settle it" says "--image-format"
mkdir "$work/outside" "$work/inside"
qemu-img create -q -f qcow2 "$work/outside/base.qcow2" 64M
qemu-img create -q -f qcow2 -b ../outside/base.qcow2 -F qcow2 "$work/inside/overlay.qcow2"
check "a backing file outside the library is refused" ends 3 "$dormouse" inspect "$work/inside/overlay.qcow2"
check "with the flag that allows it" says "--allow-backing"
"$dormouse" inspect "$work/inside/overlay.qcow2" --allow-backing "$work/outside" >/dev/null 2>"$work/said" || true
check "and allowed when the user says so" bash -c "! grep -q 'allow-backing' '$work/said'"
qemu-img create -q -f qcow2 --object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s "$work/locked.qcow2" 16M
check "an encrypted image is refused by name" ends 3 "$dormouse" inspect "$work/locked.qcow2"
check "as encrypted" says "encrypt"
cp -r "$mirror" "$work/mirror"
sed -i '0,/^Suite:.*/s//Suite: forged/' "$work/mirror/dists/bookworm-security/InRelease"
check "a forged index is refused" ends 3 "$dormouse" check "$library/db-01.raw" --baseline debian-security \
  --repo "$work/mirror" --keyring "$mirror/keyring.gpg" --as-of "$as_of"
cp "$mirror/dists/bookworm-security/InRelease" "$work/mirror/dists/bookworm-security/InRelease"
deb=$(find "$work/mirror/pool" -name 'libssl3_*.deb' | head -1)
printf x | dd of="$deb" bs=1 seek=5000 conv=notrunc status=none
check "a package whose digest differs is refused" ends 3 "$dormouse" patch "$library/db-01.raw" \
  --baseline debian-security --repo "$work/mirror" --keyring "$mirror/keyring.gpg" --as-of "$as_of" -o "$work/never.qcow2"
check "nothing was written for it, not even in part" bash -c "! ls '$work'/never* 2>/dev/null | grep -q ."
rm -rf "$work/mirror"
check "a stale index is reported" ends 3 "$dormouse" check "$library/db-01.raw" --baseline debian-security \
  --repo "$mirror" --keyring "$mirror/keyring.gpg" --as-of 2100-01-01T00:00:00Z
check "an unknown key of a baseline is an error with its line" bash -c '
  printf "name = \"x\"\ncolour = 1\n" >"$1/baseline.toml"
  "$2" check "$3/db-01.raw" -b "$1/baseline.toml" 2>&1 | grep -q "line 2"' - "$work" "$dormouse" "$library"
check "a missing library is an error of the host" ends 4 "$dormouse" inspect "$work/nowhere"
if [ "$(id -u)" -eq 0 ] && mkdir "$work/full" && mount -t tmpfs -o size=20m none "$work/full" 2>/dev/null; then
  check "a full disk is an error of the host" ends 4 "$dormouse" patch "$library/db-01.raw" "${judged[@]}" \
    -o "$work/full/db-01.qcow2" --allow-backing "$library"
  check "and leaves nothing behind" [ -z "$(ls "$work/full")" ]
  umount "$work/full"
fi

sums "$library" >"$work/after"
check "the library is byte for byte what it was" cmp -s "$work/before" "$work/after"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
