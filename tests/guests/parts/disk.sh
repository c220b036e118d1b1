# shellcheck shell=bash
# The disks of the machines: GPT with an EFI partition and an ext4 root. Sourced.

# Offsets and lengths in MiB. 64 MiB is enough for FAT32 with 512-byte clusters; the last MiB holds the second GPT.
esp_start=1
esp_length=64
root_start=$((esp_start + esp_length))

mib=$((1024 * 1024))

# uuid_of NAME: always the same for the same name, so that two builds of one machine differ only where they must.
uuid_of() {
  local digest
  digest=$(printf 'dormouse guest %s' "$1" | sha256sum)
  printf '%s-%s-4%s-a%s-%s\n' "${digest:0:8}" "${digest:8:4}" "${digest:12:3}" "${digest:15:3}" "${digest:18:12}"
}

root_length() { echo $(($1 - root_start - 1)); }

# partition DISK SIZE NAME: a sparse raw disk of SIZE MiB with both partitions.
partition() {
  local disk=$1 size=$2 name=$3
  rm -f "$disk"
  truncate -s "${size}M" "$disk"
  sfdisk --quiet "$disk" <<EOF
label: gpt
label-id: $(uuid_of "$name disk")
start=${esp_start}MiB, size=${esp_length}MiB, type=uefi, uuid=$(uuid_of "$name esp partition"), name="EFI"
start=${root_start}MiB, size=$(root_length "$size")MiB, type=linux, uuid=$(uuid_of "$name root partition"), name="root"
EOF
}

esp_volume_id() { uuid_of "$1 esp" | tr -d - | cut -c1-8; }

# format_esp DISK NAME: an empty FAT32 filesystem in the first partition.
format_esp() {
  mkfs.vfat -F 32 -s 1 -n EFI -i "$(esp_volume_id "$2")" --offset $((esp_start * mib / 512)) \
    "$1" $((esp_length * 1024)) 2> >(grep -v 'block count mismatch' >&2) >/dev/null
}

# fill_esp DISK LOADER CONFIGURATION: the boot loader, where the firmware and where Debian look for it.
fill_esp() {
  local esp="$1@@${esp_start}M"
  mmd -i "$esp" ::EFI ::EFI/BOOT ::EFI/debian
  mcopy -i "$esp" "$2" ::EFI/BOOT/BOOTX64.EFI
  mcopy -i "$esp" "$2" ::EFI/debian/grubx64.efi
  mcopy -i "$esp" "$3" ::EFI/debian/grub.cfg
}

# make_root DISK SIZE NAME FOLDER [MKE2FS-OPTION...]: ext4 with mke2fs's own defaults, holding FOLDER.
# metadata_csum_seed (a default of newer mke2fs) is the one feature left out: the guests' boot loader cannot read it.
make_root() {
  local disk=$1 size=$2 name=$3 folder=$4
  shift 4
  mke2fs -q -F -t ext4 -O '^metadata_csum_seed' "$@" -L root -U "$(uuid_of "$name root")" \
    -E "offset=$((root_start * mib)),hash_seed=$(uuid_of "$name hash")" -d "$folder" \
    "$disk" "$(root_length "$size")M" 2> >(grep -vE '^(Warning: offset specified|$)' >&2)
}

# root_filesystem DISK: how e2fsprogs name the root filesystem inside a raw disk of ours.
root_filesystem() { echo "$1?offset=$((root_start * mib))"; }

# thin_overlay OVERLAY BASE BASE-FORMAT RAW: a qcow2 over BASE that holds only the clusters in which RAW differs
# from it. The backing name is BASE's file name alone, so the pair can be moved together.
thin_overlay() {
  local overlay=$1 base=$2 format=$3 raw=$4
  (
    cd "$(dirname "$overlay")" || exit 1
    qemu-img create -q -f qcow2 -b "$(realpath "$raw")" -F raw "$(basename "$overlay")"
    qemu-img rebase -b "$(basename "$base")" -F "$format" "$(basename "$overlay")"
  )
}
