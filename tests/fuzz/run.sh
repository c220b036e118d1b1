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
    *.bz2) bzip2 -dc "$1" ;;
    *) cat "$1" ;;
  esac
}

# seed_through FILTER TARGET PREFIX LIMIT FILE...: what FILTER makes of the files, where it is no larger than LIMIT bytes, each
# behind the bytes PREFIX.
seed_through() {
  local filter=$1 target=$2 prefix=$3 limit=$4 file name size
  shift 4
  for file in "$@"; do
    [ -f "$file" ] || continue
    name="$work/corpus/$target/seed-$(printf '%s%s' "$prefix" "$file" | sha256sum | cut -c1-16)"
    { printf '%b' "$prefix" && "$filter" < <(plain "$file"); } >"$name"
    size=$(stat -c %s "$name")
    if [ "$size" -le 1 ] || [ "$size" -gt "$limit" ]; then rm -f "$name"; fi
  done
}

# seed TARGET PREFIX LIMIT FILE...: files as they are.
seed() { seed_through cat "$@"; }

# image TARGET PREFIX FILE...: images, packed, where that is no more than 1.25 MiB.
image() {
  local target=$1 prefix=$2
  shift 2
  seed_through "$here/pack.py" "$target" "$prefix" $((1280 * kibibyte)) "$@"
}

kibibyte=1024
scratch=$(mktemp -d "$work/scratch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
tree="$scratch/tree"
mkdir -p "$tree/folder"
for n in 1 2 3 4 5 6 7 8; do seq "$n" 900 >"$tree/folder/file $n"; done
ln -s "folder/file 1" "$tree/link"
ln "$tree/folder/file 2" "$tree/hard link"
truncate -s 40000 "$tree/hole"
printf end >>"$tree/hole"
shopt -s nullglob globstar

# partition NUMBER FIRST SECTORS: one of a disk with four filesystems, as a file of its own.
partition() {
  local disk="$scratch/four.raw"
  if [ ! -f "$disk" ]; then
    zstd -qdc "$fixtures/disk-formats/osv-scalibr/valid-ext-exfat-fat32-ntfs.qcow2.zst" >"$disk.qcow2"
    qemu-img convert -O raw "$disk.qcow2" "$disk"
  fi
  dd if="$disk" of="$scratch/partition$1" bs=512 skip="$2" count="$3" conv=sparse status=none
  echo "$scratch/partition$1"
}

# A machine of 1 MiB without devices, whose monitor is told what stands on standard input.
monitor() { qemu-system-x86_64 -machine none -m 1 -S -nodefaults -display none -monitor stdio >/dev/null; }

blkid="$fixtures/fs-misc/util-linux-blkid/images-fs"

seeds() {
  local made="$scratch/$1.image" kind file size
  case $1 in
    ext4)
      mke2fs -q -t ext4 -b 1024 -d "$tree" "$made" 1M
      mke2fs -q -t ext4 -b 1024 -I 256 -O ^metadata_csum,inline_data -d "$tree" "$made.plain" 2M
      mke2fs -q -t ext2 -d "$tree" "$made.old" 1M
      image ext4 '' "$made"* "$(partition 1 2048 129024)" "$fixtures"/fs-ext4/ext4-view/* "$fixtures"/fs-ext4/e2fsprogs/*/image.gz
      ;;
    fat)
      for kind in 12 16 32; do
        truncate -s $((kind * kind / 12))M "$made.$kind"
        mkfs.fat -F "$kind" "$made.$kind" >/dev/null
        mcopy -s -i "$made.$kind" "$tree/folder" ::/
      done
      image fat '' "$made".* "$(partition 3 262144 131072)" "$fixtures"/fs-fat/**/*
      ;;
    exfat) image exfat '' "$blkid/exfat.img.xz" "$(partition 2 131072 131072)" ;;
    ntfs)
      truncate -s 2M "$made"
      mkntfs -qF "$made" >/dev/null 2>&1
      ntfscp -q "$made" "$tree/folder/file 1" '/file 1'
      image ntfs '' "$made" "$fixtures"/fs-ntfs/*/* "$(partition 4 393216 129024)" "$blkid/ntfs.img.xz"
      ;;
    squashfs)
      for kind in gzip zstd lz4 xz lzo; do
        mksquashfs "$tree" "$made.by-$kind" -comp "$kind" -quiet -no-progress
      done
      mksquashfs "$tree" "$made.none" -noI -noD -noF -noX -quiet -no-progress
      image squashfs '' "$made".*
      ;;
    iso9660)
      genisoimage -quiet -R -J -o "$made" "$tree"
      image iso9660 '' "$made" "$blkid"/iso*
      ;;
    erofs)
      mkfs.erofs "$made" "$tree" >/dev/null 2>&1
      mkfs.erofs -zlz4 "$made.lz4" "$tree" >/dev/null 2>&1
      image erofs '' "$made"* "$blkid"/erofs*
      ;;
    xfs) image xfs '' "$fixtures"/fs-xfs/*/* "$fixtures"/fs-misc/cryptsetup/*xfs* "$blkid"/xfs* ;;
    btrfs)
      truncate -s 128M "$made" "$made.mixed"
      mkfs.btrfs -q --nodesize 4096 -r "$tree" "$made"
      mkfs.btrfs -q --mixed --nodesize 4096 -r "$tree" "$made.mixed"
      image btrfs '' "$made"* "$fixtures"/fs-btrfs/btrfs-progs/*/*/*.raw*
      ;;
    qcow2)
      mke2fs -q -d "$tree" "$made" 1M
      for kind in compat=0.10 compat=1.1 cluster_size=512 extended_l2=on cluster_size=4096,compression_type=zstd; do
        qemu-img convert -q -O qcow2 -o "$kind" "$made" "$made.$kind"
        qemu-img convert -q -c -O qcow2 -o "${kind/extended_l2=on/refcount_bits=1}" "$made" "$made.$kind.compressed"
      done
      qemu-img snapshot -c one "$made.compat=1.1"
      qemu-io -c 'write -P 7 4096 20000' "$made.compat=1.1" >/dev/null
      qemu-img bitmap --add "$made.compat=1.1" marks
      rm "$made"
      image qcow2 '' "$made".* "$fixtures"/disk-formats/**/*.qcow2*
      ;;
    disks)
      mke2fs -q -d "$tree" "$made" 1M
      for kind in qcow qed vmdk vhdx vpc vdi parallels; do
        qemu-img convert -q -O "$kind" "$made" "$made.$kind"
      done
      for kind in monolithicFlat streamOptimized; do
        qemu-img convert -q -O vmdk -o "subformat=$kind" "$made" "$made.$kind.vmdk"
      done
      qemu-img convert -q -O vpc -o subformat=fixed "$made" "$made.fixed.vpc"
      # The byte in front is the place of the format in the table of formats.
      image disks '\x01' "$made".qcow "$fixtures"/disk-formats/**/*.qcow
      image disks '\x02' "$made".qed
      image disks '\x03' "$made"*.vmdk "$fixtures"/disk-formats/**/*vmdk*
      image disks '\x04' "$made".vhdx "$fixtures"/disk-formats/**/*.vhdx*
      image disks '\x05' "$made"*.vpc "$fixtures"/disk-formats/**/*.vhd.* "$fixtures"/disk-formats/**/*.vhd
      image disks '\x06' "$made".vdi
      image disks '\x07' "$made".parallels "$fixtures"/disk-formats/**/parallels*
      ;;
    volumes)
      truncate -s 8M "$made"
      printf '%s\n' 'label: gpt' 'size=2M' 'size=2M' 'size=1M' | sfdisk -q "$made"
      truncate -s 8M "$made.logical"
      printf '%s\n' 'size=1M' 'type=5' 'size=1M' 'size=1M' | sfdisk -q "$made.logical"
      image volumes '' "$made"* "$fixtures"/partitions/*/*.img* "$blkid"/{lvm2,luks1,luks2,mdraid,mdraid-1}.img.xz
      ;;
    luks)
      # A header of LUKS1 behind an odd byte, the JSON of LUKS2 behind an even one.
      head -c 1024 < <(plain "$fixtures/luks/cryptsetup/compatimage.img.xz") | tail -c +2 >"$made"
      seed luks '\x01' 8192 "$made"
      head -c 16384 < <(plain "$fixtures/luks/cryptsetup/compatimage2.img.xz") | tail -c +4097 | tr -d '\0' >"$made.json"
      seed luks ' ' 8192 "$made.json"
      ;;
    md | lvm) "$here/recipes.py" "$1" "$made" && seed "$1" '' 65536 "$made"/* ;;
    saved_states)
      # Behind an even byte as it is, behind an odd one packed.
      monitor <<<"migrate \"exec:cat > $made.stream\""$'\nquit'
      monitor <<<$'migrate_set_capability mapped-ram on\n'"migrate file:$made.mapped"$'\nquit'
      image saved_states '\x01' "$made.mapped"
      "$here/recipes.py" saved_states "$made"
      for kind in gzip bzip2 xz lzop zstd; do "$kind" -qc <"$made.stream" >"$made/$kind"; done
      seed saved_states '\0' 65536 "$made.stream" "$made"/*
      ;;
    regf)
      # In front is how many times 512 bytes the hive has; its log follows.
      seed regf '\xff\xff' $((1024 * kibibyte)) "$fixtures"/registry/{libguestfs,nt-hive}/* "$fixtures"/registry/regipy/{BCD,SAM,SECURITY}.xz
      for file in "$fixtures"/registry/yarp/*.tar.zst; do
        mkdir "$made"
        plain "$file" | tar -x -C "$made"
        for kind in "$made"/**/*Hive "$made"/**/*Hive2; do
          [ -f "$kind" ] || continue
          seed regf '\xff\xff' $((300 * kibibyte)) "$kind"
          [ -f "$kind.LOG1" ] || continue
          cat "$kind" "$kind.LOG1" >"$kind.both"
          size=$(($(stat -c %s "$kind") / 512))
          seed regf "$(printf '\\x%02x\\x%02x' $((size & 255)) $((size >> 8)))" $((600 * kibibyte)) "$kind.both"
        done
        rm -r "$made"
      done
      ;;
    rpmdb)
      for kind in sqlite ndb; do
        rpm --root "$made.$kind" --define "_db_backend $kind" --dbpath /rpm -i --justdb --nodeps --nosignature --noscripts \
          --ignorearch --ignoreos "$fixtures"/packages/rpm/go-rpmutils/*epoch*.rpm >/dev/null 2>&1 || true
        seed rpmdb '' $((512 * kibibyte)) "$made.$kind"/rpm/{rpmdb.sqlite,Packages.db}
      done
      seed rpmdb '' $((512 * kibibyte)) "$fixtures"/pkgdb/rpm/*/Packages*.zst
      ;;
    rpm_header)
      "$here/recipes.py" rpm_header "$made" "$fixtures"/packages/rpm/**/*.rpm
      seed rpm_header '' 65536 "$made"/*
      ;;
    apk) seed apk '' $((64 * kibibyte)) "$fixtures"/pkgdb/apk/* ;;
    pacman) seed pacman '' 65536 "$fixtures"/pkgdb/pacman/*/*/{desc,files} ;;
    dpkg_status) seed dpkg_status '' $((64 * kibibyte)) "$fixtures"/pkgdb/dpkg/* /usr/lib/os-release ;;
    deb)
      mkdir -p "$made/DEBIAN"
      cp -r "$tree/folder" "$made/etc"
      printf '%s\n' 'Package: a' 'Version: 1' 'Architecture: all' 'Maintainer: a <a@example.org>' 'Description: a' >"$made/DEBIAN/control"
      printf '#!/bin/sh\n' >"$made/DEBIAN/postinst"
      chmod 755 "$made/DEBIAN/postinst"
      echo '/etc/file 1' >"$made/DEBIAN/conffiles"
      for kind in none gzip xz zstd; do
        dpkg-deb --uniform-compression -Z"$kind" --root-owner-group -b "$made" "$made.$kind.deb" >/dev/null 2>&1 || true
      done
      seed deb '' $((256 * kibibyte)) "$made".*.deb "$fixtures"/packages/deb/*/*/*libcap2*
      ;;
    descriptions)
      tar -C "$here/seeds/descriptions" --format ustar -cf "$made.ova" machine.ovf
      seed descriptions '\0' 65536 "$fixtures"/saved-state/virtualbox-descriptors/*.vbox "$made.ova" "$here/seeds/descriptions/machine.ovf"
      ;;
    feeds)
      seed feeds '' $((48 * kibibyte)) "$fixtures"/advisories/{csaf,osv-schema,osv-almalinux,alpine-*,debian-tracker-*,oval,updateinfo}/**/*
      for file in "$fixtures"/advisories/{debian-security-tracker/DSA-list,oval/azurelinux,updateinfo/fedora,osv-almalinux/alsa}*; do
        head -c 20000 < <(plain "$file") >"$made.$(basename "$file" .zst)"
      done
      seed feeds '' $((32 * kibibyte)) "$made".*
      ;;
    policy) seed policy '' 65536 "$top"/baselines/definitions/*.toml ;;
    repository)
      seed repository '\x01' 65536 "$fixtures"/packages/rpm/cavaliergopher/RPM-GPG-KEY* /usr/share/keyrings/debian-archive-bookworm-*.gpg
      ;;
    settings) seed settings '' 65536 /etc/passwd /etc/group /etc/login.defs ;;
    shell) seed shell '' 65536 /var/lib/dpkg/info/*.{postinst,prerm,postrm,preinst} ;;
    version)
      for kind in "$fixtures"/versions/*.tsv; do
        head -45 "$kind" | cut -f 1,3 | tr '\t' '\n' | split -l 3 - "$made.$(basename "$kind")."
      done
      seed version '' 1024 "$made".*
      ;;
  esac
  # What is written by hand.
  seed "$1" '' 65536 "$here/seeds/$1"/*
}

{
  # shellcheck disable=SC2016 # the backquotes are Markdown's
  printf '# Coverage-guided fuzzing\n\nWhat `make fuzz-coverage` printed on %s: %s seconds for each target, one processor.\n\n' \
    "$(date -u +%Y-%m-%d)" "$seconds"
  printf '| target | executions | edges covered | features | inputs kept | found |\n|---|---|---|---|---|---|\n'
} >"$work/table"
failed=0
for target in "$@"; do
  mkdir -p "$work/corpus/$target"
  # Once: the corpus goes on from there.
  if [ ! -e "$work/seeded/$target" ]; then
    seeds "$target"
    mkdir -p "$work/seeded"
    touch "$work/seeded/$target"
  fi
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
