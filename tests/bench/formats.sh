#!/usr/bin/env bash
# `dormouse inventory` of one server in every disk format and on every filesystem, against root's own way and against
# dissect.target, on the same files, in one run.
#
#   formats.sh GUESTS-DIR RESULTS-DIR
#
# Prints one line of tab-separated values for each image: name, seconds of root's way, of dissect.target, of Dormouse
# (medians), packages that each lists, and Dormouse's peak memory in KiB. Ends with 1 when Dormouse and dpkg-query differ in
# a package. DORMOUSE names the program (target/release/dormouse). Needs what images.sh needs, and PyPI for dissect.target.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
guests=$(realpath "$here/../guests")
dormouse=$(realpath "${DORMOUSE:-$here/../../target/release/dormouse}")
[ "$#" -eq 2 ] || { echo "usage: ${0##*/} GUESTS-DIR RESULTS-DIR" >&2; exit 2; }
for program in hyperfine jq python3; do
  command -v "$program" >/dev/null || { echo "formats: $program is missing; see guests/prerequisites.sh" >&2; exit 2; }
done
"$here/images.sh" "$1" >&2
folder=$(realpath "$1")/formats
mkdir -p "$2"
results=$(realpath "$2")
peer="$(realpath "$1")/dissect"
version=3.25
if [ ! -x "$peer/bin/target-query" ] || [ "$(cat "$peer/version" 2>/dev/null)" != "$version" ]; then
  rm -rf "$peer"
  python3 -m venv "$peer"
  "$peer/bin/pip" --quiet install "dissect.target[full]==$version"
  echo "$version" >"$peer/version"
fi

# peak_memory COMMAND...: the largest resident set of the command, in KiB.
peak_memory() {
  python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$@"
}

while IFS=$'\t' read -r name format offset options; do
  image="$folder/$name"
  "$guests/root-inventory.sh" "$image" "$offset" "$format" "$options" | sed -n 's/\tinstalled$//p' | sort >"$results/theirs"
  "$dormouse" inventory "$image" --format json --no-progress |
    jq -r '.. | .packages? | arrays | .[] | [.name, .architecture, .version] | @tsv' | sort >"$results/ours"
  diff "$results/theirs" "$results/ours" >&2 || { echo "formats: $name: dpkg-query and dormouse differ" >&2; exit 1; }
  # It may take a minute for what others take milliseconds for; ten seconds are enough to tell.
  listed=$(timeout 10 "$peer/bin/target-query" -q -s -f dpkg.status "$image" 2>/dev/null | grep -c 'install ok installed' || true)
  hyperfine --shell=none --warmup 2 --runs 15 --export-json "$results/format.json" --style none \
    --command-name root "$guests/root-inventory.sh $image $offset $format $options" \
    --command-name dormouse "$dormouse inventory $image --format json --no-progress" >/dev/null
  hyperfine --shell=none --runs 2 --export-json "$results/dissect.json" --style none --ignore-failure \
    --command-name dissect "timeout 10 $peer/bin/target-query -q -s -f dpkg.status $image" >/dev/null
  jq -rs --arg name "$name" --arg packages "$(wc -l <"$results/ours")" --arg listed "$listed" \
    --arg peak "$(peak_memory "$dormouse" inventory "$image" --format json --no-progress)" '
    (map(.results[]) | map({ (.command): .median }) | add) as $m |
    [$name, $m.root, $m.dissect, $m.dormouse, $packages, $listed, $peak] | @tsv' "$results/format.json" "$results/dissect.json"
done <"$folder/images.tsv"
