#!/usr/bin/env bash
# The control archives of every binary package of a release's security suite, and what is needed to interpret their
# maintainer scripts: those of the versions they replace, which programs each package of the release brings, and a base
# tree with the programs that maintainer scripts call.
#
#   security-corpus.sh DIR [RELEASE...]      (releases: bookworm and bullseye, unless others are named)
#
# Leaves DIR/RELEASE/new/NAME/ and DIR/RELEASE/old/NAME/ (control files, unpacked), DIR/RELEASE/programs.tsv (package,
# path), DIR/RELEASE/depends.tsv (package, version, what it depends on) and DIR/RELEASE/root.tar. Of each package file only the first part is
# fetched. A second call does nothing for a release that is there. Needs user namespaces or root for the base tree.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/parts/distribution.sh
. "$here/parts/distribution.sh"

[ "$#" -ge 1 ] || { echo "usage: ${0##*/} DIR [RELEASE...]" >&2; exit 2; }
mkdir -p "$1"
corpus=$(realpath "$1")
shift
[ "$#" -ge 1 ] || set -- bookworm bullseye
need curl gpgv sha256sum xz tar zstd awk mmdebstrap
find_mirrors

# Bytes fetched first of each package file; the control archive of nearly every package is shorter.
first_part=65536

# What a server has, and the tools that maintainer scripts call.
tools=(ca-certificates openssh-server nginx-light apache2 postgresql mariadb-server php php-mysql samba bind9 haproxy
  redis-server python3 perl vim-tiny rsync git curl exim4-daemon-light locales tcpdump ucf xml-core sgml-base
  dictionaries-common emacsen-common ssl-cert fontconfig man-db shared-mime-info desktop-file-utils libglib2.0-bin
  install-info apparmor update-inetd dbus libpam-runtime logrotate cron mailcap tex-common polkitd:policykit-1
  xfonts-utils libgtk-3-0 default-jre-headless systemd-timesyncd psmisc lsb-base debsums libcap2-bin)

# verified URI SUITE NAME FILE: a file that the suite's signed index names.
verified() {
  local uri=$1 suite=$2 name=$3 file=$4 digest
  curl --fail --silent --show-error --location --retry 3 --output "$scratch/InRelease" "$uri/dists/$suite/InRelease"
  gpgv --quiet --keyring "$archive_keyring" "$scratch/InRelease" 2>"$scratch/gpgv.log" ||
    { cat "$scratch/gpgv.log" >&2; fail "the signature of $suite/InRelease does not verify"; }
  digest=$(awk -v name="$name" \
    '/^SHA256:/ { inside = 1; next } /^[^ ]/ { inside = 0 } inside && $3 == name { print $1; exit }' "$scratch/InRelease")
  [ -n "$digest" ] || fail "$suite/InRelease names no $name"
  curl --fail --silent --show-error --location --retry 3 --output "$file" \
    "$uri/dists/$suite/${name%/*}/by-hash/SHA256/$digest" 2>/dev/null ||
    curl --fail --silent --show-error --location --retry 3 --output "$file" "$uri/dists/$suite/$name"
  echo "$digest  $file" | sha256sum --quiet --check || fail "$suite: $name does not have the digest in its signed index"
}

# packages URI: of a package list, "name version uri-of-file dependencies", tab-separated.
packages() {
  awk -v OFS='\t' -v uri="$1" '
    function flush() { if (file != "") print name, version, uri "/" file, depends; file = depends = "" }
    /^Package: /                { name = $2 }
    /^Version: /                { version = $2 }
    /^Filename: /               { file = $2 }
    /^(Pre-)?Depends: /         { sub(/^[^ ]* /, ""); depends = depends (depends == "" ? "" : ", ") $0 }
    /^$/                        { flush() }
    END                         { flush() }'
}

# newest: of lines "name version ...", one per name, the one of the latest version.
newest() {
  sort -t "$(printf '\t')" -k1,1 -s | awk -F '\t' '
    $1 == name { system("") ; command = "dpkg --compare-versions " $2 " gt " version; if (system(command) == 0) { version = $2; line = $0 } next }
    { if (name != "") print line; name = $1; version = $2; line = $0 }
    END { if (name != "") print line }'
}

# control_archives LIST FOLDER: unpacks the control archive of each package of the list into FOLDER/NAME.
control_archives() {
  local list=$1 folder=$2 name size start=132
  mkdir -p "$folder" "$scratch/parts"
  rm -f "$scratch/parts"/*
  # Hosts that know no ranges send the whole file; the size is bounded all the same.
  awk -F '\t' -v folder="$scratch/parts" -v last="$((first_part - 1))" '
    { printf "url = \"%s\"\noutput = \"%s/%s\"\nrange = \"0-%d\"\n", $3, folder, $1, last; if (NR > 0) print "next\nfail\nsilent\nlocation\nretry = 3" }' \
    "$list" | sed '$d' | sed '$d' | sed '$d' | sed '$d' | sed '$d' >"$scratch/transfers"
  curl --fail --silent --location --retry 3 --no-progress-meter --parallel --parallel-max 12 --config "$scratch/transfers" || true
  while IFS=$'\t' read -r name _ uri _; do
    [ -s "$scratch/parts/$name" ] || { echo "$name: not fetched" >&2; continue; }
    # ar(5): the second member's header follows debian-binary's 60 + 4 bytes; its size stands in bytes 48 to 57.
    size=$(head -c 130 "$scratch/parts/$name" | tail -c +121 | tr -dc 0-9)
    [ -n "$size" ] || { echo "$name: no package file" >&2; continue; }
    if [ "$((start + size))" -gt "$(stat -c %s "$scratch/parts/$name")" ]; then
      curl --fail --silent --show-error --location --retry 3 --range "0-$((start + size))" --output "$scratch/parts/$name" "$uri"
    fi
    mkdir -p "$folder/$name"
    # The member's name says how it is compressed.
    case $(head -c 88 "$scratch/parts/$name" | tail -c +73) in
      control.tar.xz*) method=xz ;;
      control.tar.gz*) method=gzip ;;
      control.tar.zst*) method=zstd ;;
      *) method=cat ;;
    esac
    { tail -c +"$((start + 1))" "$scratch/parts/$name" | head -c "$size" 2>/dev/null || true; } |
      { if [ "$method" = cat ]; then cat; else "$method" -dc; fi; } |
      tar -x --no-same-owner -C "$folder/$name" || { echo "$name: control archive not read" >&2; rm -rf "${folder:?}/$name"; }
  done <"$list"
}

for release in "$@"; do
  if [ -e "$corpus/$release/complete" ]; then
    echo "security-corpus: $release is there"
    continue
  fi
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  work="$corpus/$release.partial"
  mkdir -p "$work"
  list="main/binary-$architecture/Packages.xz"
  verified "$security_mirror" "$release-security" "$list" "$scratch/security.xz"
  verified "$mirror" "$release" "$list" "$scratch/release.xz"
  xz -dc "$scratch/security.xz" | packages "$security_mirror" | newest >"$scratch/new.tsv"
  xz -dc "$scratch/release.xz" | packages "$mirror" | newest >"$scratch/release.tsv"
  awk -F '\t' 'FILENAME == ARGV[1] { wanted[$1] = 1; next } $1 in wanted' "$scratch/new.tsv" "$scratch/release.tsv" >"$scratch/old.tsv"
  cut -f 1,2,4 "$scratch/new.tsv" "$scratch/release.tsv" >"$work/depends.tsv"
  for kind in "$architecture" all; do
    verified "$mirror" "$release" "main/Contents-$kind.gz" "$scratch/contents.gz"
    gzip -dc "$scratch/contents.gz" | awk -v OFS='\t' '
      $1 ~ /^(usr\/)?s?bin\/[^\/]+$/ { count = split($NF, names, ","); for (i = 1; i <= count; i++) { name = names[i]; sub(/.*\//, "", name); print name, "/" $1 } }'
  done | sort -u >"$work/programs.tsv"
  if [ ! -e "$work/root.tar" ]; then
    names=()
    for tool in "${tools[@]}"; do
      # one:other where releases name a package differently
      for name in ${tool//:/ }; do
        if grep -q "^$name	" "$scratch/release.tsv"; then names+=("$name"); break; fi
      done
    done
    TMPDIR=${TMPDIR:-/tmp} mmdebstrap --quiet --variant=important --architectures="$architecture" \
      --include="$(IFS=,; echo "${names[*]}")" --dpkgopt=force-unsafe-io --keyring="$archive_keyring" "$release" "$work/root.partial.tar" \
      "deb [signed-by=$archive_keyring] $mirror $release main"
    mv "$work/root.partial.tar" "$work/root.tar"
  fi
  control_archives "$scratch/new.tsv" "$work/new"
  control_archives "$scratch/old.tsv" "$work/old"
  touch "$work/complete"
  rm -rf "${corpus:?}/$release"
  mv "$work" "$corpus/$release"
  rm -rf "$scratch"
  echo "security-corpus: $release: $(wc -l <"$corpus/$release/depends.tsv") packages known, $(find "$corpus/$release/new" -mindepth 1 -maxdepth 1 | wc -l) of the security suite in $corpus/$release"
done
