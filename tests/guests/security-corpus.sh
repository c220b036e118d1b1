#!/usr/bin/env bash
# The control archives of every binary package of a release's security suite, and what is needed to interpret their
# maintainer scripts: those of the versions they replace, which programs each package of the release brings, and a base
# tree with the programs that maintainer scripts call.
#
#   security-corpus.sh DIR [RELEASE...]      (releases: bookworm and bullseye, unless others are named)
#
# Leaves DIR/RELEASE/new/NAME/ and DIR/RELEASE/old/NAME/ (control files, unpacked), DIR/RELEASE/programs.tsv (package,
# path), DIR/RELEASE/depends.tsv (package, version, what it depends on), DIR/RELEASE/root.tar, and in
# DIR/RELEASE/packages/ whole package files, of those with maintainer scripts that are not very large; of the others only
# the first part is fetched. What is there is not fetched again. Needs user namespaces or root for the base tree.
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

# Bytes up to which a package with maintainer scripts is fetched whole.
whole=40000000

# What a server has, and the tools that maintainer scripts call.
tools=(ca-certificates openssh-server nginx-light apache2 postgresql mariadb-server php php-mysql samba bind9 haproxy
  redis-server python3 perl vim-tiny rsync git curl exim4-daemon-light locales tcpdump ucf xml-core sgml-base
  dictionaries-common emacsen-common ssl-cert fontconfig man-db shared-mime-info desktop-file-utils libglib2.0-bin
  install-info apparmor update-inetd dbus libpam-runtime logrotate cron mailcap tex-common polkitd:policykit-1
  dbconfig-common dbconfig-mysql dbconfig-pgsql xfonts-utils libgtk-3-0 default-jre-headless systemd-timesyncd psmisc lsb-base debsums libcap2-bin)

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
    function flush() { if (file != "") print name, version, uri "/" file, (depends == "" ? "-" : depends), size, digest; file = depends = "" }
    /^Package: /                { name = $2 }
    /^Version: /                { version = $2 }
    /^Filename: /               { file = $2 }
    /^Size: /                   { size = $2 }
    /^SHA256: /                 { digest = $2 }
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

# transfers LIST FOLDER [BYTES]: fetches the file of each package of the list, or its first bytes, several at once.
transfers() {
  awk -F '\t' -v folder="$2" -v bytes="${3:-}" '
    NR > 1 { print "next" }
    { printf "url = \"%s\"\noutput = \"%s/%s\"\nfail\nsilent\nlocation\nretry = 3\n", $3, folder, $1 }
    bytes != "" { printf "range = \"0-%d\"\n", bytes - 1 }' "$1" >"$scratch/transfers"
  curl --no-progress-meter --parallel --parallel-max 12 --config "$scratch/transfers" || true
}

# control_archives LIST FOLDER: unpacks the control archive of each package of the list into FOLDER/NAME.
control_archives() {
  local list=$1 folder=$2 name size uri method start=132
  rm -rf "$folder.partial" "$scratch/parts"
  mkdir -p "$folder.partial" "$scratch/parts"
  transfers "$list" "$scratch/parts" "$first_part"
  while IFS=$'\t' read -r name _ uri _; do
    [ -s "$scratch/parts/$name" ] || { echo "$name: not fetched" >&2; continue; }
    # ar(5): the second member's header follows debian-binary's 60 + 4 bytes; its size stands in bytes 48 to 57.
    size=$(head -c 130 "$scratch/parts/$name" | tail -c +121 | tr -dc 0-9)
    [ -n "$size" ] || { echo "$name: no package file" >&2; continue; }
    if [ "$((start + size))" -gt "$(stat -c %s "$scratch/parts/$name")" ]; then
      curl --fail --silent --show-error --location --retry 3 --range "0-$((start + size))" \
        --output "$scratch/parts/$name" "$uri"
    fi
    mkdir -p "$folder.partial/$name"
    # The member's name says how it is compressed.
    case $(head -c 88 "$scratch/parts/$name" | tail -c +73) in
      control.tar.xz*) method=xz ;;
      control.tar.gz*) method=gzip ;;
      control.tar.zst*) method=zstd ;;
      *) echo "$name: no known compression" >&2; continue ;;
    esac
    # Both ends of the pipe may close early: what counts is what tar makes of it.
    { tail -c +"$((start + 1))" "$scratch/parts/$name" 2>/dev/null || true; } | head -c "$size" | "$method" -dc |
      tar -x --no-same-owner -C "$folder.partial/$name" ||
      { echo "$name: control archive not read" >&2; rm -rf "$folder.partial/${name:?}"; }
  done <"$list"
  rm -rf "$scratch/parts" "$folder"
  mv "$folder.partial" "$folder"
}

# whole_packages LIST NEW FOLDER: the package files of those that have maintainer scripts, each checked.
whole_packages() {
  local list=$1 new=$2 folder=$3 name digest script
  rm -rf "$folder.partial"
  mkdir -p "$folder.partial"
  awk -F '\t' -v most="$whole" '$5 <= most' "$list" | while IFS=$'\t' read -r name rest; do
    for script in preinst postinst prerm postrm; do
      if [ -e "$new/$name/$script" ]; then printf '%s\t%s\n' "$name" "$rest"; break; fi
    done
  done >"$scratch/whole.tsv"
  transfers "$scratch/whole.tsv" "$folder.partial"
  while IFS=$'\t' read -r name _ _ _ _ digest; do
    if ! echo "$digest  $folder.partial/$name" | sha256sum --quiet --check 2>/dev/null; then
      echo "$name: the package file is not the listed one" >&2
      rm -f "$folder.partial/$name"
    fi
  done <"$scratch/whole.tsv"
  rm -rf "$folder"
  mv "$folder.partial" "$folder"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for release in "$@"; do
  work="$corpus/$release"
  mkdir -p "$work"
  list="main/binary-$architecture/Packages.xz"
  verified "$security_mirror" "$release-security" "$list" "$scratch/security.xz"
  verified "$mirror" "$release" "$list" "$scratch/release.xz"
  xz -dc "$scratch/security.xz" | packages "$security_mirror" | newest >"$scratch/new.tsv"
  xz -dc "$scratch/release.xz" | packages "$mirror" | newest >"$scratch/release.tsv"
  awk -F '\t' 'FILENAME == ARGV[1] { wanted[$1] = 1; next } $1 in wanted' \
    "$scratch/new.tsv" "$scratch/release.tsv" >"$scratch/old.tsv"
  cut -f 1,2,4 "$scratch/new.tsv" "$scratch/release.tsv" >"$work/depends.tsv"
  if [ ! -e "$work/programs.tsv" ]; then
    for kind in "$architecture" all; do
      verified "$mirror" "$release" "main/Contents-$kind.gz" "$scratch/contents.gz"
      gzip -dc "$scratch/contents.gz" | awk -v OFS='\t' '
        $1 ~ /^(usr\/)?s?bin\/[^\/]+$/ {
          count = split($NF, names, ",")
          for (i = 1; i <= count; i++) { name = names[i]; sub(/.*\//, "", name); print name, "/" $1 }
        }'
    done | sort -u >"$scratch/programs.tsv"
    mv "$scratch/programs.tsv" "$work/programs.tsv"
  fi
  if [ ! -e "$work/root.tar" ]; then
    names=()
    for tool in "${tools[@]}"; do
      # one:other where releases name a package differently
      for name in ${tool//:/ }; do
        if grep -q "^$name	" "$scratch/release.tsv"; then names+=("$name"); break; fi
      done
    done
    mmdebstrap --quiet --variant=important --architectures="$architecture" --include="$(IFS=,; echo "${names[*]}")" \
      --dpkgopt=force-unsafe-io --keyring="$archive_keyring" "$release" "$work/root.partial.tar" \
      "deb [signed-by=$archive_keyring] $mirror $release main"
    mv "$work/root.partial.tar" "$work/root.tar"
  fi
  [ -d "$work/new" ] || control_archives "$scratch/new.tsv" "$work/new"
  [ -d "$work/old" ] || control_archives "$scratch/old.tsv" "$work/old"
  [ -d "$work/packages" ] || whole_packages "$scratch/new.tsv" "$work/new" "$work/packages"
  echo "security-corpus: $release: $(find "$work/new" -mindepth 1 -maxdepth 1 | wc -l) packages of the security suite," \
    "$(find "$work/packages" -type f | wc -l) whole, in $work"
done
