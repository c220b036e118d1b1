#!/usr/bin/env bash
# Downloads a partial package mirror: the signed indices, and every package that the given machines' own apt would
# fetch for `dist-upgrade`, exactly as the distribution serves them.
#
#   mirror.sh DIR ROOT-OR-STATUS-FILE...
#
# Each argument is a dpkg status file, a folder of such files (*.status), or a machine's root folder. Leaves
# DIR/dists/<suite>/..., DIR/pool/... (one folder for both archives: their file names differ) and DIR/keyring.gpg,
# and beside it DIR.facts: pending/NAME.tsv (package, architecture, old version or "-", new version, file, round) for
# each machine, and the key. dpkg can take all packages of one round at once: each round's Pre-Depends are configured
# by then, and what a round depends on is in it or before it. DORMOUSE_RELEASE names another release than the library's, and DORMOUSE_RECOMMENDS=false leaves out what is
# only recommended. A second call for the same machines does nothing. Needs no root.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/distribution.sh
. "$here/parts/distribution.sh"
release=${DORMOUSE_RELEASE:-$release} recommends=${DORMOUSE_RECOMMENDS:-true}

[ "$#" -ge 2 ] || { echo "usage: ${0##*/} DIR ROOT-OR-STATUS-FILE..." >&2; exit 2; }
mkdir -p "$(dirname "$1")"
mirror_folder=$(realpath -m "$1")
facts="$mirror_folder.facts"
shift

names=() statuses=()
add_machine() { names+=("$1") statuses+=("$(realpath "$2")"); }
for argument in "$@"; do
  if [ -f "$argument/var/lib/dpkg/status" ]; then
    add_machine "$(basename "$argument")" "$argument/var/lib/dpkg/status"
  elif [ -d "$argument" ]; then
    for status in "$argument"/*.status; do
      [ -f "$status" ] || fail "$argument is neither a root nor a folder of .status files"
      add_machine "$(basename "$status" .status)" "$status"
    done
  elif [ -f "$argument" ]; then
    add_machine "$(basename "$argument" .status)" "$argument"
  else
    fail "$argument does not exist"
  fi
done

key=$({ echo "$release $recommends" && cat "$here/mirror.sh" "$here/parts/distribution.sh" "${statuses[@]}" && printf '%s\n' "${names[@]}"; } |
  sha256sum | cut -d' ' -f1)
if [ -d "$mirror_folder" ] && [ "$(cat "$facts/key" 2>/dev/null)" = "$key" ]; then
  echo "mirror: $mirror_folder is up to date"
  exit 0
fi

need apt-get curl gpgv sha256sum awk
find_mirrors
work="$mirror_folder.partial"
new_facts="$facts.partial"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" "$work" "$new_facts"' EXIT
rm -rf "$work" "$new_facts"
mkdir -p "$work" "$new_facts/pending"

# fetch URI FILE
fetch() {
  mkdir -p "$(dirname "$2")"
  curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
}

# listed_digest INRELEASE NAME: the SHA-256 that a signed index gives for one of its files.
listed_digest() {
  awk -v name="$2" '/^SHA256:/ { in_list = 1; next } /^[^ ]/ { in_list = 0 } in_list && $3 == name { print $1; exit }' "$1"
}

digest_of() { sha256sum "$1" | cut -d' ' -f1; }

# fetch_suite URI SUITE: the signed index, and the package list that it names: as .xz, and as .gz too where the archive
# has it, as those have it who mirror an archive whole. The archive may change between two requests: then all of it is asked
# for again. Release and Release.gpg say the same as InRelease; they are kept where they verify, which on a mirror that
# caches them apart they may not.
fetch_suite() {
  local uri=$1 suite=$2 folder="$work/dists/$2" list="main/binary-$architecture/Packages.xz" attempt digest
  for attempt in 1 2 3; do
    rm -rf "$folder"
    fetch "$uri/dists/$suite/InRelease" "$folder/InRelease"
    gpgv --quiet --keyring "$archive_keyring" "$folder/InRelease" 2>"$scratch/gpgv.log" ||
      { cat "$scratch/gpgv.log" >&2; fail "the signature of $suite/InRelease does not verify"; }
    digest=$(listed_digest "$folder/InRelease" "$list")
    [ -n "$digest" ] || fail "$suite/InRelease names no $list"
    fetch "$uri/dists/$suite/$list" "$folder/$list"
    if [ "$(digest_of "$folder/$list")" != "$digest" ]; then
      fetch "$uri/dists/$suite/${list%/*}/by-hash/SHA256/$digest" "$folder/$list" || true
    fi
    if [ "$(digest_of "$folder/$list")" = "$digest" ]; then
      if ! fetch "$uri/dists/$suite/Release" "$folder/Release" 2>/dev/null ||
        ! fetch "$uri/dists/$suite/Release.gpg" "$folder/Release.gpg" 2>/dev/null ||
        ! gpgv --quiet --keyring "$archive_keyring" "$folder/Release.gpg" "$folder/Release" 2>/dev/null; then
        rm -f "$folder/Release" "$folder/Release.gpg"
      fi
      digest=$(listed_digest "$folder/InRelease" "${list%.xz}.gz")
      if [ -n "$digest" ] && fetch "$uri/dists/$suite/${list%.xz}.gz" "$folder/${list%.xz}.gz" 2>/dev/null; then
        [ "$(digest_of "$folder/${list%.xz}.gz")" = "$digest" ] || rm "$folder/${list%.xz}.gz"
      else
        rm -f "$folder/${list%.xz}.gz"
      fi
      return
    fi
    echo "mirror: $suite changed while it was being read (attempt $attempt)" >&2
    sleep 5
  done
  fail "$suite: the package list does not have the digest in its signed index"
}

fetch_suite "$mirror" "$release"
fetch_suite "$security_mirror" "$release-security"
cp "$archive_keyring" "$work/keyring.gpg"

# What the machines' own apt would do is asked of exactly the indices that were just fetched and verified.
local_release_source() { echo "deb [arch=$architecture signed-by=$archive_keyring] copy:$work $release main"; }
local_security_source() { echo "deb [arch=$architecture signed-by=$archive_keyring] copy:$work $release-security main"; }
release_source() { local_release_source; }
security_source() { local_security_source; }
private_apt_root "$scratch/apt"
private_apt "$scratch/apt" "$scratch/apt/status" update >/dev/null

# package_fields: of a package list, "filename package architecture version sha256 pre-dependencies dependencies",
# tab-separated; both as names alone, with a comma after each, and of dependencies those on certain versions.
package_fields() {
  awk -v OFS='\t' '
    function flush() { if (file != "") print file, package, architecture, version, digest, before, with; file = before = with = "" }
    /^Package: /      { package = $2 }
    /^Architecture: / { architecture = $2 }
    /^Version: /      { version = $2 }
    /^Filename: /     { file = $2 }
    /^SHA256: /       { digest = $2 }
    /^Pre-Depends: /  { sub(/^[^ ]* /, ""); gsub(/ *\([^)]*\)|:[a-z0-9]+/, ""); gsub(/[|,] */, ","); gsub(/ /, ""); before = $0 "," }
    /^Depends: / {
      count = split(substr($0, 10), parts, / *[,|] */)
      for (i = 1; i <= count; i++) if (parts[i] ~ /\(/) { sub(/[ :(].*/, "", parts[i]); with = with parts[i] "," }
    }
    /^$/              { flush() }
    END               { flush() }'
}
for suite in "$release" "$release-security"; do
  xz -dc "$work/dists/$suite/main/binary-$architecture/Packages.xz" | package_fields |
    sed "s|^|$suite\t|" >>"$scratch/packages"
done

for index in "${!names[@]}"; do
  name=${names[$index]} status=${statuses[$index]}
  private_apt "$scratch/apt" "$status" -o "APT::Install-Recommends=$recommends" --print-uris -qq \
    dist-upgrade >"$scratch/uris" ||
    fail "apt finds no upgrade for $name"
  # apt prints: 'copy:<mirror>/<Filename>' <name> <size> <digest>
  sed -n "s|^'copy:$work/\([^']*\)'.*|\1|p" "$scratch/uris" | sed 's|%2b|+|g;s|%7e|~|g;s|%3a|:|g' >"$scratch/files"
  awk '$1 == "Package:" { package = $2 } $1 == "Version:" { print package "\t" $2 }' "$status" >"$scratch/installed"
  awk -F '\t' -v OFS='\t' '
    FILENAME == ARGV[1] { wanted[$1] = 1; next }
    FILENAME == ARGV[2] { old[$1] = $2; next }
    $2 in wanted        { row[$3] = $3 OFS $4 OFS ($3 in old ? old[$3] : "-") OFS $5 OFS $2; before[$3] = $7; with[$3] = $8; depth[$3] = 0 }
    END {
      # A package goes as late as those that pre-depend on it allow: dpkg can untie what Breaks among packages that
      # it is given together. No chain of pre-dependencies is longer than the set.
      deepest = 0
      for (pass in row)
        for (package in row) {
          count = split(before[package], names, ",")
          for (i = 1; i < count; i++)
            if (names[i] in row && names[i] != package && depth[names[i]] <= depth[package]) {
              depth[names[i]] = depth[package] + 1
              if (depth[names[i]] > deepest) deepest = depth[names[i]]
            }
          count = split(with[package], names, ",")
          for (i = 1; i < count; i++)
            if (names[i] in row && depth[names[i]] < depth[package]) depth[names[i]] = depth[package]
        }
      for (package in row) print row[package], deepest - depth[package] + 1
    }' "$scratch/files" "$scratch/installed" "$scratch/packages" | sort >"$new_facts/pending/$name.tsv"
  cat "$scratch/files" >>"$scratch/all"
done
sort -u "$scratch/all" >"$scratch/wanted"

# One transfer of many files at a time, several at once; then each is checked against the signed list.
awk -F '\t' -v mirror="$mirror" -v security="$security_mirror" -v release="$release" -v folder="$work" '
  FILENAME == ARGV[1] { wanted[$1] = 1; next }
  $2 in wanted && !($2 in seen) {
    seen[$2] = 1
    printf "url = \"%s/%s\"\noutput = \"%s/%s\"\n", ($1 == release ? mirror : security), $2, folder, $2
  }' "$scratch/wanted" "$scratch/packages" >"$scratch/transfers"
curl --fail --silent --show-error --no-progress-meter --location --retry 3 --create-dirs --parallel --parallel-max 6 \
  --config "$scratch/transfers"
awk -F '\t' 'FILENAME == ARGV[1] { wanted[$1] = 1; next } $2 in wanted { print $6 "  " $2 }' \
  "$scratch/wanted" "$scratch/packages" | sort -u -k 2 >"$scratch/sums"
[ "$(wc -l <"$scratch/sums")" -eq "$(wc -l <"$scratch/wanted")" ] || fail "a package is in no signed list"
(cd "$work" && sha256sum --quiet --check "$scratch/sums") || fail "a package does not have its listed digest"

echo "$key" >"$new_facts/key"
rm -rf "$mirror_folder" "$facts"
mv "$new_facts" "$facts"
mv "$work" "$mirror_folder"
echo "mirror: $(wc -l <"$scratch/wanted") packages, $(du -sh "$mirror_folder" | cut -f1) in $mirror_folder"
