# Finds the plan of the machine that this runs in, and carries it out. Usage: sh catch-up.sh [NAME]
#
# Without NAME it is the only plan of this bundle, or the only one made for this machine's own id (/etc/machine-id).
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1

say() { printf 'catch-up: %s\n' "$*" >&2; }
names() { list_plans | cut -d ' ' -f 2; }
name=${1:-}
if [ -z "$name" ] && [ "$(names | wc -l)" -eq 1 ]; then
  name=$(names)
fi
if [ -z "$name" ] && [ -r "${DORMOUSE_ROOT:-}/etc/machine-id" ]; then
  id=$(cat "${DORMOUSE_ROOT:-}/etc/machine-id")
  case $id in '' | *[!0-9a-f]*) id=none ;; esac
  own=$(list_plans | sed -n "s/^$id //p")
  if [ -n "$own" ] && [ "$(printf '%s\n' "$own" | wc -l)" -eq 1 ]; then
    name=$own
  fi
fi
if [ -z "$name" ]; then
  say "which of these plans is this machine's? sh $here/catch-up.sh NAME"
  names | sed 's/^/  /' >&2
  exit 1
fi
if ! names | grep -qxF "$name"; then
  say "there is no plan $name in this bundle"
  exit 1
fi
exec sh "$here/plans/$name.sh" "$here"
