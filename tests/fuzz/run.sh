#!/usr/bin/env bash
# Coverage-guided fuzzing of every parser by libFuzzer, with a stable compiler.
#
#   run.sh SECONDS [TARGET...]
#
# Builds the targets with coverage and checks of overflow, seeds each from the fixtures (DORMOUSE_FIXTURES) and from images
# made here, runs each for SECONDS, and prints a table of executions and coverage; of all targets, it is written to
# RESULTS.md too. What a target finds is left in target/fuzz/found and ends the run with 1. Corpora stay in
# target/fuzz/corpus, so that the next run goes on from there.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
top=$(realpath "$here/../..")
fixtures=$(realpath "${DORMOUSE_FIXTURES:-$top/../shared/fixtures}")
[ "$#" -ge 1 ] || { echo "usage: ${0##*/} SECONDS [TARGET...]" >&2; exit 2; }
seconds=$1
shift
all=no
if [ "$#" -eq 0 ]; then
  all=yes
  for file in "$here"/fuzz_targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
fi
work="$top/target/fuzz"
mkdir -p "$work/corpus" "$work/found"

flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=4
  -Coverflow-checks=yes -Cdebug-assertions=yes --cfg fuzzing"
RUSTFLAGS="${flags//$'\n'/ }" "${CARGO:-cargo}" build --release --quiet --locked --manifest-path "$here/Cargo.toml" \
  --target-dir "$work/build" --target "$(rustc -vV | sed -n 's/^host: //p')"
programs=$(echo "$work"/build/*/release)

# plain FILE: its bytes, unpacked.
plain() {
  case $1 in
    *.xz) xz -dc "$1" ;;
    *.zst) zstd -qdc "$1" ;;
    *.gz) gzip -dc "$1" ;;
    *) cat "$1" ;;
  esac
}

# seed TARGET PREFIX LIMIT FILE...: files no larger than LIMIT bytes, each behind the bytes PREFIX.
seed() {
  local target=$1 prefix=$2 limit=$3 file name
  shift 3
  for file in "$@"; do
    [ -f "$file" ] || continue
    name="$work/corpus/$target/seed-$(printf '%s%s' "$prefix" "$file" | sha256sum | cut -c1-16)"
    { printf '%b' "$prefix" && plain "$file"; } >"$name"
    [ "$(stat -c %s "$name")" -le "$limit" ] || rm -f "$name"
  done
}

mebibyte=$((1024 * 1024))
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/tree/folder"
for n in 1 2 3 4 5 6 7 8; do seq "$n" 900 >"$scratch/tree/folder/file $n"; done
ln -s "folder/file 1" "$scratch/tree/link"
shopt -s nullglob globstar

seeds() {
  local image="$scratch/$1.image" kind
  case $1 in
    ext4) mke2fs -q -t ext4 -b 1024 -d "$scratch/tree" "$image" 1M && seed ext4 '' $((2 * mebibyte)) "$image" ;;
    fat)
      truncate -s 1M "$image"
      mkfs.fat "$image" >/dev/null
      mcopy -s -i "$image" "$scratch/tree/folder" ::/
      seed fat '' $((2 * mebibyte)) "$image" "$fixtures"/fs-fat/syzkaller/*
      ;;
    exfat) truncate -s 1M "$image" && mkfs.exfat "$image" >/dev/null && seed exfat '' $((2 * mebibyte)) "$image" ;;
    ntfs) truncate -s 2M "$image" && mkntfs -qF "$image" >/dev/null 2>&1 && seed ntfs '' $((3 * mebibyte)) "$image" ;;
    squashfs)
      for kind in gzip zstd lz4 xz lzo; do
        mksquashfs "$scratch/tree" "$image.$kind" -comp "$kind" -quiet -no-progress
      done
      seed squashfs '' "$mebibyte" "$image".*
      ;;
    iso9660) genisoimage -quiet -R -J -o "$image" "$scratch/tree" && seed iso9660 '' "$mebibyte" "$image" ;;
    erofs)
      mkfs.erofs "$image" "$scratch/tree" >/dev/null 2>&1
      mkfs.erofs -zlz4 "$image.lz4" "$scratch/tree" >/dev/null 2>&1
      seed erofs '' "$mebibyte" "$image" "$image.lz4"
      ;;
    xfs) seed xfs '' $((40 * mebibyte)) "$fixtures"/fs-misc/cryptsetup/*xfs* ;;
    btrfs) seed btrfs '' $((20 * mebibyte)) "$fixtures"/fs-btrfs/btrfs-progs/fsck-tests/*/*.{img,raw}.xz ;;
    qcow2) seed qcow2 '' "$mebibyte" "$fixtures"/disk-formats/**/*.qcow2* ;;
    disks)
      for kind in '\0' '\x01' '\x02' '\x03' '\x04' '\x05' '\x06' '\x07' '\x08'; do
        seed disks "$kind" "$mebibyte" "$fixtures"/disk-formats/**/*.{vmdk,vhd,vhdx,vdi,qcow,qed,hds}*
      done
      ;;
    volumes) seed volumes '' "$mebibyte" "$fixtures"/partitions/*/*.img* ;;
    regf) seed regf '\xff\xff' "$mebibyte" "$fixtures"/registry/**/*.xz ;;
    rpmdb) seed rpmdb '' $((4 * mebibyte)) "$fixtures"/pkgdb/rpm/**/* ;;
    rpm_header) seed rpm_header '' "$mebibyte" "$fixtures"/packages/rpm/**/* ;;
    apk) seed apk '' "$mebibyte" "$fixtures"/pkgdb/apk/**/* ;;
    pacman) seed pacman '' "$mebibyte" "$fixtures"/pkgdb/pacman/**/* ;;
    dpkg_status) seed dpkg_status '' "$mebibyte" "$fixtures"/pkgdb/dpkg/**/* ;;
    deb) seed deb '' "$mebibyte" "$fixtures"/packages/deb/**/* ;;
    descriptions) seed descriptions '' "$mebibyte" "$fixtures"/saved-state/**/*.{vbox,xml} ;;
    shell) seed shell '' 65536 /var/lib/dpkg/info/*.{postinst,prerm,postrm,preinst} ;;
  esac
}

{
  printf '# Coverage-guided fuzzing\n\nWhat `make fuzz-coverage` printed on %s: %s seconds for each target, one processor.\n\n' \
    "$(date -u +%Y-%m-%d)" "$seconds"
  printf '| target | executions | edges covered | features | inputs kept | found |\n|---|---|---|---|---|---|\n'
} >"$work/table"
failed=0
for target in "$@"; do
  mkdir -p "$work/corpus/$target"
  seeds "$target"
  longest=$(find "$work/corpus/$target" -type f -printf '%s\n' | sort -n | tail -1)
  status=0
  "$programs/$target" -max_total_time="$seconds" -max_len=$(((${longest:-0} > 65536) ? longest : 65536)) -timeout=25 \
    -rss_limit_mb=2048 -artifact_prefix="$work/found/$target-" -print_final_stats=1 -verbosity=1 \
    "$work/corpus/$target" >"$work/$target.log" 2>&1 || status=$?
  found=none
  if [ "$status" -ne 0 ]; then
    found="ended with $status"
    failed=1
  fi
  awk -v target="$target" -v found="$found" '
    /cov: / { for (i = 1; i <= NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
    /stat::number_of_executed_units/ { runs = $2 }
    /^#[0-9]+/ { last = substr($1, 2) + 0 }
    END { split(corp, kept, "/"); printf "| %s | %d | %d | %d | %d | %s |\n", target, (runs == "" ? last : runs), cov, ft, kept[1], found }' \
    "$work/$target.log" | tee -a "$work/table"
done
[ "$all" = no ] || cp "$work/table" "$here/RESULTS.md"
exit "$failed"
