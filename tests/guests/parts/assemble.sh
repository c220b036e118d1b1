#!/usr/bin/env bash
# Turns a root archive into a bootable raw disk. Runs inside the namespace that parts/namespace.sh makes.
#
#   assemble.sh TAR DISK SIZE-MIB NAME ADMINISTRATOR [MKE2FS-OPTION...]
#
# GUEST_SOURCES in the environment becomes the machine's sources.list.
# ADMINISTRATOR is a script that gets the root folder and does what somebody did to this machine, or "-".
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=SCRIPTDIR/disk.sh
. "$here/disk.sh"
# shellcheck source=SCRIPTDIR/namespace.sh
. "$here/namespace.sh"

tar=$1 disk=$2 size=$3 name=$4 administrator=$5
shift 5

scratch=$(mktemp -d "$(dirname "$disk")/assemble.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
root="$scratch/root"
unpack_root "$tar" "$root"
chmod 0755 "$root"

echo "${GUEST_SOURCES:?}" >"$root/etc/apt/sources.list"

# A machine that has been set up: a name, an identity, its file systems, a network.
echo "$name" >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s\n' "$name" >"$root/etc/hosts"
uuid_of "$name machine" | tr -d - >"$root/etc/machine-id"
cat >"$root/etc/fstab" <<EOF
# <file system> <mount point> <type> <options> <dump> <pass>
UUID=$(uuid_of "$name root") / ext4 errors=remount-ro 0 1
EOF
: >"$root/etc/resolv.conf"
if [ -d "$root/etc/network" ]; then
  printf 'auto lo\niface lo inet loopback\n\nallow-hotplug ens3\niface ens3 inet dhcp\n' >"$root/etc/network/interfaces"
fi

partition "$disk" "$size" "$name"
format_esp "$disk" "$name"
if [ -d "$root/usr/lib/grub/x86_64-efi" ]; then
  mkdir -p "$root/boot/efi"
  esp_id=$(esp_volume_id "$name")
  esp_id=${esp_id^^}
  echo "UUID=${esp_id:0:4}-${esp_id:4} /boot/efi vfat umask=0077 0 1" >>"$root/etc/fstab"
  sed -i -e 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=1/' -e 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX="console=ttyS0"/' \
    "$root/etc/default/grub"
  echo 'GRUB_TERMINAL="serial console"' >>"$root/etc/default/grub"

  # What grub-install would leave, without a device to install to.
  mkdir -p "$root/boot/grub"
  cp -a "$root/usr/lib/grub/x86_64-efi" "$root/boot/grub/"
  in_chroot "$root" grub-mkimage -O x86_64-efi -p /EFI/debian -o /boot/grub/x86_64-efi/core.efi \
    part_gpt fat ext2 normal configfile search search_fs_uuid linux serial terminal echo test gzio ls
  version=$(find "$root/boot" -name 'vmlinuz-*' -printf '%f\n' | sed 's/^vmlinuz-//' | sort -V | tail -n 1)
  cat >"$root/boot/grub/grub.cfg" <<EOF
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set default=0
set timeout=1
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux {
	insmod gzio
	insmod part_gpt
	insmod ext2
	search --no-floppy --fs-uuid --set=root $(uuid_of "$name root")
	linux /boot/vmlinuz-$version root=UUID=$(uuid_of "$name root") ro console=ttyS0
	initrd /boot/initrd.img-$version
}
EOF
  cat >"$scratch/grub.cfg" <<EOF
search.fs_uuid $(uuid_of "$name root") root
set prefix=(\$root)'/boot/grub'
configfile \$prefix/grub.cfg
EOF
  fill_esp "$disk" "$root/boot/grub/x86_64-efi/core.efi" "$scratch/grub.cfg"
fi

[ "$administrator" = - ] || "$administrator" "$root"
make_root "$disk" "$size" "$name" "$root" "$@"
