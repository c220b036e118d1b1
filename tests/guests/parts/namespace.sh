# shellcheck shell=bash
# Where machines' files keep their owners and chroots work: as root, a mount namespace of its own; else, a user
# namespace in which the caller is root and the caller's subordinate ids are everybody else. Either way mounts made
# inside vanish with it. Sourced.

build_mode() {
  if [ "$(id -u)" -eq 0 ]; then echo root; else echo unshare; fi
}

in_namespace() {
  if [ "$(build_mode)" = root ]; then
    unshare --mount --propagation private -- "$@"
  else
    unshare --user --map-root-user --map-auto --mount --propagation private -- "$@"
  fi
}

# unpack_root TAR FOLDER: (inside the namespace) a root folder from mmdebstrap's archive, without its device nodes.
unpack_root() {
  mkdir -p "$2"
  tar --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*' -C "$2" -xpf "$1"
}

# prepare_chroot FOLDER: (inside the namespace) kernel file systems for a chroot, and no service may start there.
prepare_chroot() {
  mount --rbind /proc "$1/proc"
  mount --rbind /sys "$1/sys"
  mount --rbind /dev "$1/dev"
  printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
  chmod 0755 "$1/usr/sbin/policy-rc.d"
}

leave_chroot() {
  rm -f "$1/usr/sbin/policy-rc.d"
  umount -l "$1/proc" "$1/sys" "$1/dev"
}

in_chroot() {
  local root=$1
  shift
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"
}
