#!/usr/bin/env bash
# `dormouse inventory` against root's own way on the same files, in one run.
#
#   inventory.sh GUESTS-DIR RESULTS-DIR
#
# Prints key=value lines: for each image the medians in seconds, their ratio and Dormouse's peak memory in KiB; first
# that both list the same packages. DORMOUSE names the program (target/release/dormouse). Needs what prepare.sh needs.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
guests=$(realpath "$here/../guests")
dormouse=$(realpath "${DORMOUSE:-$here/../../target/release/dormouse}")
[ "$#" -eq 2 ] || { echo "usage: ${0##*/} GUESTS-DIR RESULTS-DIR" >&2; exit 2; }
for program in hyperfine jq python3; do
  command -v "$program" >/dev/null || { echo "inventory: $program is missing; see guests/prerequisites.sh" >&2; exit 2; }
done
folder=$(realpath "$1")
mkdir -p "$2"
results=$(realpath "$2")

# peak_memory COMMAND...: the largest resident set of the command, in KiB.
peak_memory() {
  python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$@"
}

for name in server.raw server.qcow2 server-zstd.qcow2; do
  image="$folder/$name"
  packages=$("$guests/root-inventory.sh" "$image" | grep -c "$(printf '\tinstalled$')")
  listed=$("$dormouse" inventory "$image" --format json | jq '[.. | .packages? | arrays | length] | add')
  [ "$packages" -eq "$listed" ] || { echo "inventory: $name has $packages packages, dormouse lists $listed" >&2; exit 1; }
  hyperfine --shell=none --warmup 3 --runs 20 --export-json "$results/inventory-$name.json" --style none \
    --command-name root "$guests/root-inventory.sh $image" \
    --command-name dormouse "$dormouse inventory $image --format json --no-progress" >/dev/null
  jq -r --arg name "$name" '
    (.results | map({ (.command): .median }) | add) as $m |
    "image=\($name)", "root_seconds=\($m.root)", "dormouse_seconds=\($m.dormouse)", "ratio=\($m.dormouse / $m.root)"' \
    "$results/inventory-$name.json"
  echo "packages=$packages"
  echo "dormouse_peak_kib=$(peak_memory "$dormouse" inventory "$image" --format json --no-progress)"
done
