# shellcheck shell=bash
# shellcheck disable=SC2154 # `root_start` and `mib` come from disk.sh
# A disk image's root filesystem mounted by the kernel, through qemu's own reader: neither shares a line with Dormouse.
# For root only. Sourced after disk.sh.

mounted_folder='' mounted_daemon='' mounted_device='' mounted_root=''

# export_qcow2 IMAGE on|off: a raw file whose bytes are the image's, written through when "on"; sets `exported`.
export_qcow2() {
  local image=$1 writable=$2 read_only=on
  [ "$writable" = off ] || read_only=off
  exported="$mounted_folder/export"
  : >"$exported"
  qemu-storage-daemon \
    --blockdev "driver=file,node-name=file,filename=$image,read-only=$read_only,cache.no-flush=on" \
    --blockdev "driver=qcow2,node-name=disk,file=file,read-only=$read_only,discard=unmap" \
    --export "type=fuse,id=export,node-name=disk,mountpoint=$exported,writable=$writable" \
    --pidfile "$mounted_folder/pid" &
  mounted_daemon=$!
  until [ -s "$mounted_folder/pid" ]; do
    kill -0 "$mounted_daemon" 2>/dev/null || return 1
    sleep 0.005
  done
}

# mount_image IMAGE ro|rw: sets `mounted_root`. Call unmount_image from a trap.
mount_image() {
  local image=$1 access=$2 writable=on read_only=()
  if [ "$access" = ro ]; then
    writable=off
    read_only=(--read-only)
  fi
  mounted_folder=$(mktemp -d)
  case $image in
    *.raw | *.img) exported=$image ;;
    *) export_qcow2 "$image" "$writable" ;;
  esac
  mounted_device=$(losetup --find --show "${read_only[@]}" --offset $((root_start * mib)) "$exported")
  mkdir "$mounted_folder/root"
  mount -t ext4 -o "$access" "$mounted_device" "$mounted_folder/root"
  mounted_root="$mounted_folder/root"
}

unmount_image() {
  [ -n "$mounted_folder" ] || return 0
  if [ -n "$mounted_root" ]; then
    umount -R "$mounted_root" 2>/dev/null || umount -R -l "$mounted_root" || true
    mounted_root=''
  fi
  if [ -n "$mounted_device" ]; then
    losetup -d "$mounted_device" || true
    mounted_device=''
  fi
  if [ -n "$mounted_daemon" ]; then
    kill "$mounted_daemon" 2>/dev/null || true
    wait "$mounted_daemon" 2>/dev/null || true
    mounted_daemon=''
  fi
  rm -rf --one-file-system "$mounted_folder"
  mounted_folder=''
}
