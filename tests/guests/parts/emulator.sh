# shellcheck shell=bash
# A machine under software emulation, its console in a file and its monitor on a pipe. Sourced.

# start_emulator MEMORY-MIB QEMU-ARGUMENT...: sets `emulator` (its process) and `console` (the file).
# UEFI from a plain firmware image, whose variables are not kept: with an internal snapshot every writable drive
# would have to be able to hold one.
start_emulator() {
  local memory=$1
  shift
  emulator_folder=$(mktemp -d)
  console="$emulator_folder/console"
  : >"$console"
  mkfifo "$emulator_folder/monitor"
  qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m "$memory" \
    -bios "$(firmware)" -display none -nodefaults -no-reboot -net none \
    -chardev "file,id=console,path=$console" -serial chardev:console -monitor stdio "$@" \
    <"$emulator_folder/monitor" >"$emulator_folder/monitor.log" 2>&1 &
  emulator=$!
  exec {monitor_input}>"$emulator_folder/monitor"
}

firmware() {
  local file
  for file in /usr/share/ovmf/OVMF.fd /usr/share/qemu/OVMF.fd; do
    if [ -r "$file" ]; then
      echo "$file"
      return
    fi
  done
  echo "emulator: no UEFI firmware; tests/guests/prerequisites.sh installs it" >&2
  return 1
}

monitor() { printf '%s\n' "$1" >&"$monitor_input"; }

# await_console PATTERN SECONDS: returns when the console shows PATTERN; fails when time is up or the machine is gone.
await_console() {
  local pattern=$1 left=$2
  until grep -aqE "$pattern" "$console"; do
    if [ "$left" -le 0 ] || ! kill -0 "$emulator" 2>/dev/null; then
      echo "emulator: no '$pattern' on the console; it ends with:" >&2
      tail -n 30 "$console" >&2
      cat "$emulator_folder/monitor.log" >&2
      return 1
    fi
    sleep 1
    left=$((left - 1))
  done
}

stop_emulator() {
  kill "$emulator" 2>/dev/null || true
  wait "$emulator" 2>/dev/null || true
  exec {monitor_input}>&-
  rm -rf "$emulator_folder"
}
