#!/usr/bin/env bash
# `dormouse patch` against dpkg in a chroot of a mounted image, for the same packages on the same machine, in one run.
#
#   patch.sh GUESTS-DIR RESULTS-DIR
#
# Prints key=value lines: the medians in seconds, their ratio, what plain decompression of the packages on all processors
# takes, the bytes that the packages unpack to, the bytes that each result takes, and the ratio of Dormouse's to the
# payload, and how many packages Dormouse configured. DORMOUSE names the program (target/release/dormouse).
# Needs what prepare.sh needs.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
guests=$(realpath "$here/../guests")
dormouse=$(realpath "${DORMOUSE:-$here/../../target/release/dormouse}")
[ "$#" -eq 2 ] || { echo "usage: ${0##*/} GUESTS-DIR RESULTS-DIR" >&2; exit 2; }
for program in hyperfine jq dpkg-deb; do
  command -v "$program" >/dev/null || { echo "patch: $program is missing; see guests/prerequisites.sh" >&2; exit 2; }
done
folder=$(realpath "$1")
mkdir -p "$2"
results=$(realpath "$2")
image="$folder/server-40.qcow2" mirror="$folder/server-mirror" pending="$folder/server-40.tsv"
scratch=$(mktemp -d "$folder/patch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# Plain decompression: every data archive, as many at a time as there are processors.
cat >"$scratch/decompress" <<END
#!/bin/sh
cut -f5 "$pending" | xargs -P "$(nproc)" -I{} sh -c 'dpkg-deb --fsys-tarfile "$mirror/{}" >/dev/null'
END
chmod +x "$scratch/decompress"

# Each run begins with nothing: no state, no unpacked payloads, no result; but for "known", whose state holds the mirror's
# index as an earlier run compiled it, as every machine after the first finds it. All results lie beside the base, which an
# overlay may name.
hyperfine --shell=none --warmup 1 --runs 3 --export-json "$results/patch.json" --style none \
  --prepare "rm -rf $scratch/dpkg.qcow2" \
  --command-name dpkg "$guests/chroot-dpkg.sh $image $mirror $pending $scratch/dpkg.qcow2" \
  --prepare "rm -rf $scratch/dormouse.qcow2 $scratch/state" \
  --command-name dormouse "$dormouse patch $image --baseline debian-security --repo $mirror \
    --keyring $mirror/keyring.gpg --state $scratch/state --output $scratch/dormouse.qcow2 --no-progress --format json" \
  --prepare "rm -rf $scratch/dormouse.qcow2" \
  --command-name known "$dormouse patch $image --baseline debian-security --repo $mirror \
    --keyring $mirror/keyring.gpg --state $scratch/known --output $scratch/dormouse.qcow2 --no-progress --format json" \
  --prepare true --command-name decompress "$scratch/decompress" >/dev/null

payload=0
while IFS=$'\t' read -r _ _ _ _ file _; do
  payload=$((payload + $(dpkg-deb --fsys-tarfile "$mirror/$file" | wc -c)))
done <"$pending"
allocated() { echo $(($(stat -c '%b * %B' "$1"))); }
# One more, outside the clock, to say what was done.
rm -rf "$scratch/dormouse.qcow2" "$scratch/state"
"$dormouse" patch "$image" --baseline debian-security --repo "$mirror" --keyring "$mirror/keyring.gpg" \
  --state "$scratch/state" --output "$scratch/dormouse.qcow2" --no-progress --format json >"$scratch/facts.json"
configured=$(jq '[.injection.packages[] | select(.configured.is == "done")] | length' "$scratch/facts.json")
jq -r --argjson configured "$configured" --argjson payload "$payload" --argjson dpkg "$(allocated "$scratch/dpkg.qcow2")" \
  --argjson dormouse "$(allocated "$scratch/dormouse.qcow2")" --argjson packages "$(wc -l <"$pending")" '
  (.results | map({ (.command): .median }) | add) as $m |
  "packages=\($packages)", "dpkg_seconds=\($m.dpkg)", "dormouse_seconds=\($m.dormouse)",
  "configured=\($configured)",
  "ratio=\($m.dormouse / $m.dpkg)", "known_seconds=\($m.known)", "known_ratio=\($m.known / $m.dpkg)",
  "known_decompress_ratio=\($m.known / $m.decompress)", "decompress_seconds=\($m.decompress)",
  "decompress_ratio=\($m.dormouse / $m.decompress)", "payload_bytes=\($payload)", "dpkg_bytes=\($dpkg)",
  "dormouse_bytes=\($dormouse)", "written_ratio=\($dormouse / $payload)"' "$results/patch.json"
