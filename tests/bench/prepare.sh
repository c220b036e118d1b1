#!/usr/bin/env bash
# Makes what the benchmarks work on: the big server, and the same server with about 40 updates still pending.
#
#   prepare.sh DIR
#
# Leaves, beside what guests/server.sh leaves in DIR: server-40.qcow2, an overlay on the zstd-compressed server into
# which the machine's own dpkg has installed all the other updates (the kernel, PHP and the databases first), and
# server-40.tsv, what is pending for it. Needs root, /dev/fuse and loop devices; a second call does nothing.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
guests=$(realpath "$here/../guests")
# How many updates stay, at most.
pending_at_most=40

[ "$#" -eq 1 ] || { echo "usage: ${0##*/} DIR" >&2; exit 2; }
"$guests/server.sh" "$1"
folder=$(realpath "$1")
pending="$folder/server-mirror.facts/pending/server.tsv"
key=$(cat "$folder/server.key" "$folder/server-mirror.facts/key" "$here/prepare.sh" | sha256sum)
if [ "$(cat "$folder/server-40.key" 2>/dev/null)" = "$key" ]; then
  echo "prepare: $folder/server-40.qcow2 is up to date"
  exit 0
fi

# Whole source packages are installed, the heavy ones first, until few enough updates are left.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
awk -F '\t' -v OFS='\t' '
  function rank(source) {
    if (source ~ /^(linux|apparmor|firmware)/) return 0
    if (source ~ /^php/) return 1
    if (source ~ /^mariadb/) return 2
    if (source ~ /^postgresql/) return 3
    if (source ~ /^(apache2|apt|bind9|ca-certificates|haproxy|expat|xz-utils|pcre2|perl|libpng|python3|cyrus-sasl2|openssl|nginx|redis|rsync|rsyslog|tzdata)/) return 5
    return 4
  }
  { n = split($5, path, "/"); print rank(path[n - 1]), path[n - 1], $0 }' "$pending" |
  sort -s -t "$(printf '\t')" -k1,1n -k2,2 >"$scratch/ranked"
awk -F '\t' -v left="$(wc -l <"$pending")" -v most="$pending_at_most" -v now="$scratch/now" -v later="$scratch/later" '
  $2 != source { source = $2; install = (left > most) }
  { line = $0; sub(/^[^\t]*\t[^\t]*\t/, "", line); print line > (install ? now : later); if (install) left-- }' \
  "$scratch/ranked"

rm -f "$folder/server-40.key" "$folder/server-40.qcow2"
"$guests/chroot-dpkg.sh" "$folder/server-zstd.qcow2" "$folder/server-mirror" "$scratch/now" "$scratch/server-40.qcow2"
sort "$scratch/later" >"$folder/server-40.tsv"
mv "$scratch/server-40.qcow2" "$folder/server-40.qcow2"
(cd "$folder" && qemu-img rebase -u -b server-zstd.qcow2 -F qcow2 server-40.qcow2)
echo "$key" >"$folder/server-40.key"
echo "prepare: $(wc -l <"$folder/server-40.tsv") updates are pending for $folder/server-40.qcow2"
