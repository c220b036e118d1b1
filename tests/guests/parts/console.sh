# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # `answer` and `shell_arguments` are for the caller; `emulator` comes from emulator.sh
# A root shell on a machine's second serial line, where no message of its kernel comes between: one command at a time,
# with its output and its exit code. Sourced after emulator.sh and disk.sh.

turn=0

# add_shell DISK: root is logged in on the second serial line of a raw disk of ours.
add_shell() {
  local folder
  folder=$(mktemp -d)
  printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %%I dumb\n' \
    >"$folder/autologin.conf"
  write_files "$1" "$folder/autologin.conf" /etc/systemd/system/serial-getty@ttyS1.service.d/autologin.conf
  rm -r "$folder"
  edit_root "$1" 'symlink /etc/systemd/system/getty.target.wants/serial-getty@ttyS1.service /lib/systemd/system/serial-getty@.service'
}

# write_files DISK HOST-FILE GUEST-PATH...: root's own files, and the last folder of each path where it is not there.
write_files() {
  local disk=$1 commands=()
  shift
  while [ "$#" -ge 2 ]; do
    commands+=("mkdir $(dirname "$2")" "rm $2" "write $1 $2" "sif $2 mode 0100644" "sif $2 uid 0" "sif $2 gid 0")
    shift 2
  done
  edit_root "$disk" "${commands[@]}"
}

# edit_root DISK COMMAND...: debugfs's commands on the root filesystem of a raw disk. What is there already, or is not
# there to be removed, is no fault.
edit_root() {
  local disk=$1 said
  shift
  said=$(printf '%s\n' "$@" | debugfs -w -f - "$(root_filesystem "$disk")" 2>&1 >/dev/null |
    grep -vE '^debugfs |Ext2 (file|directory) already exists|File not found by ext2_lookup' || true)
  [ -z "$said" ] || { echo "console: debugfs: $said" >&2; return 1; }
}

# new_line FOLDER: sets `shell_arguments`, for start_emulator, and `shell`, what is said there.
new_line() {
  shell="$1/shell"
  : >"$shell"
  rm -f "$1/keys"
  mkfifo "$1/keys"
  exec {keys}<>"$1/keys"
  shell_arguments=(-chardev "file,id=shell,path=$shell,input-path=$1/keys" -serial chardev:shell)
}
close_line() { exec {keys}>&-; }

# open_shell SECONDS: waits for the prompt, and makes the shell answer plainly: no line editor, no echo.
open_shell() {
  local until=$((SECONDS + $1))
  until grep -aq 'root@.*#' "$shell"; do
    if [ "$SECONDS" -ge "$until" ] || ! kill -0 "$emulator" 2>/dev/null; then
      echo "console: no shell there" >&2
      return 1
    fi
    sleep 1
  done
  printf 'exec sh\n' >&"$keys"
  sleep 2
  printf 'stty -echo; PS1= PS2=\n' >&"$keys"
  sleep 2
  on_guest 60 true
}

# on_guest SECONDS COMMAND: sets `answer` to what the command says there, and ends with its exit code; with 124 when
# there is none in time.
on_guest() {
  local until=$((SECONDS + $1)) from status
  turn=$((turn + 1))
  from=$(stat -c %s "$shell")
  # The quotes keep what is typed from looking like what is answered.
  printf '%s\n' "$2" "echo \"=\"\"=$turn:\$?==\"" >&"$keys"
  while :; do
    tail -c "+$((from + 1))" "$shell" | tr -d '\r' >"$shell.answer"
    status=$(sed -n "s/^.*==$turn:\([0-9]*\)==.*\$/\1/p" "$shell.answer")
    [ -z "$status" ] || break
    if [ "$SECONDS" -ge "$until" ] || ! kill -0 "$emulator" 2>/dev/null; then
      echo "console: no end of '$2'; it says:" >&2
      tail -n 20 "$shell.answer" >&2
      return 124
    fi
    sleep 0.5
  done
  answer=$(sed "s/==$turn:[0-9]*==.*\$//" "$shell.answer")
  return "$status"
}
