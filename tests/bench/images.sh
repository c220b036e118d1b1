#!/usr/bin/env bash
# Makes the server of `prepare.sh` anew in every disk format and on every filesystem that the benchmark compares.
#
#   images.sh GUESTS-DIR
#
# Leaves in GUESTS-DIR/formats: images.tsv (file, format as QEMU calls it, offset of the root filesystem in bytes, options of
# its mount) and the images that it names. Needs root and loop devices; a second call does nothing.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
[ "$#" -eq 1 ] || { echo "usage: ${0##*/} GUESTS-DIR" >&2; exit 2; }
folder=$(realpath "$1")
raw="$folder/server.raw"
out="$folder/formats"
key=$(cat "$folder/server.key" "$here/images.sh" | sha256sum)
if [ "$(cat "$out/key" 2>/dev/null)" = "$key" ]; then
  echo "images: $out is up to date"
  exit 0
fi
rm -rf "$out"
mkdir -p "$out"
start=$((65 * 1024 * 1024))
# LVM keeps its labels and metadata in the first MiB of its volume.
extents=$((1024 * 1024))
size=$(($(sfdisk -d "$raw" | sed -n '/name="root"/s/.*size= *\([0-9]*\).*/\1/p') * 512))

devices=() mounts=()
undo() {
  for mount in "${mounts[@]}"; do umount "$mount" 2>/dev/null || true; done
  for device in "${devices[@]}"; do losetup -d "$device" 2>/dev/null || true; done
  rm -rf --one-file-system "$scratch"
}
scratch=$(mktemp -d)
trap undo EXIT

# attach FILE OFFSET SIZE [READ-ONLY]: sets $device.
attach() {
  device=$(losetup --find --show --offset "$2" --sizelimit "$3" ${4:+--read-only} "$1")
  devices+=("$device")
}
mkdir "$scratch/from" "$scratch/to"
attach "$raw" "$start" "$size" read-only
mount -t ext4 -o ro,noload "$device" "$scratch/from"
mounts+=("$scratch/from")

# copy DEVICE TYPE OPTIONS: the server's files, with an fstab that names the new filesystem.
copy() {
  mount -t "$2" "$1" "$scratch/to"
  mounts+=("$scratch/to")
  local top="$scratch/to"
  if [ "$2" = btrfs ]; then
    btrfs -q subvolume create "$top/@rootfs"
    top="$top/@rootfs"
  fi
  cp -a "$scratch/from/." "$top/"
  local id
  id=$(blkid -p -s UUID -o value "$1")
  sed -i "s|^UUID=[^ ]* / ext4 [^ ]*|UUID=$id / $2 $3|" "$top/etc/fstab"
  grep -q "^UUID=$id / $2 " "$top/etc/fstab"
  umount "$scratch/to"
}

# whole FILE: a disk with the server's partition table and EFI partition, and an empty root.
whole() {
  truncate -s "$(stat -c %s "$raw")" "$1"
  sfdisk -d "$raw" | sfdisk -q "$1"
  dd if="$raw" of="$1" bs=1M skip=1 seek=1 count=64 conv=notrunc,sparse status=none
}

whole "$out/xfs.raw"
attach "$out/xfs.raw" "$start" "$size"
mkfs.xfs -q "$device"
copy "$device" xfs defaults
whole "$out/btrfs.raw"
attach "$out/btrfs.raw" "$start" "$size"
mkfs.btrfs -q "$device" >/dev/null
copy "$device" btrfs defaults,subvol=@rootfs

# One linear volume, written into the group's metadata: nothing here needs the kernel's device mapper. It lies in one piece,
# a MiB into its partition.
whole "$out/lvm.raw"
attach "$out/lvm.raw" "$start" "$size"
quiet() { "$@" --config "devices { scan = \"/dev\" filter = [ \"a|^$device\$|\", \"r|.*|\" ] } activation { monitoring = 0 }" >/dev/null 2>&1; }
quiet pvcreate -ff -y --dataalignment 1m "$device"
quiet vgcreate server "$device"
quiet vgcfgbackup -f "$scratch/group" server
awk -v extents="$(((size - extents) / 4194304))" '
  /^server \{/ { within = 1 }
  within && /^\}/ {
    print "logical_volumes {\nroot {\nid = \"Dormou-Benc-hmar-Root-Volu-meOn-eLinea\""
    print "status = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\nsegment_count = 1"
    print "segment1 {\nstart_extent = 0\nextent_count = " extents "\ntype = \"striped\"\nstripe_count = 1"
    print "stripes = [\"pv0\", 0]\n}\n}\n}"
    within = 0
  }
  { print }' "$scratch/group" >"$scratch/group.root"
quiet vgcfgrestore -f "$scratch/group.root" server
length=$((size - extents))
attach "$out/lvm.raw" $((start + extents)) $((length - length % 4194304))
mkfs.ext4 -q "$device"
copy "$device" ext4 errors=remount-ro

convert() { qemu-img convert -f raw -O "$2" ${3:+-o "$3"} "$raw" "$out/$1"; }
convert sparse.vmdk vmdk
convert stream.vmdk vmdk subformat=streamOptimized
convert server.vhd vpc
convert server.vhdx vhdx
convert server.vdi vdi
qemu-img convert -f raw -O qcow2 -o extended_l2=on "$raw" "$out/subclusters.qcow2"
for name in server.raw server.qcow2 server-zstd.qcow2; do ln -s "../$name" "$out/$name"; done

{
  printf 'server.raw\traw\t%d\tro\n' "$start"
  printf 'server.qcow2\tqcow2\t%d\tro\n' "$start"
  printf 'server-zstd.qcow2\tqcow2\t%d\tro\n' "$start"
  printf 'subclusters.qcow2\tqcow2\t%d\tro\n' "$start"
  printf 'sparse.vmdk\tvmdk\t%d\tro\n' "$start"
  printf 'stream.vmdk\tvmdk\t%d\tro\n' "$start"
  printf 'server.vhd\tvpc\t%d\tro\n' "$start"
  printf 'server.vhdx\tvhdx\t%d\tro\n' "$start"
  printf 'server.vdi\tvdi\t%d\tro\n' "$start"
  printf 'xfs.raw\traw\t%d\tro\n' "$start"
  printf 'btrfs.raw\traw\t%d\tro,subvol=@rootfs\n' "$start"
  printf 'lvm.raw\traw\t%d\tro\n' $((start + extents))
} >"$out/images.tsv"
echo "$key" >"$out/key"
echo "images: $(wc -l <"$out/images.tsv") images in $out"
