#!/usr/bin/env bash
# `make fidelity` and `make boot-test`.
#
#   run.sh fidelity|boot DORMOUSE CORPUS-DIR [RELEASE...]
#
# Builds what is missing of the corpus, measures every release (all three, unless some are named), prints the tables and
# writes them to RESULTS.md and SUITES.md (fidelity) or BOOT.md (boot) beside this script. Ends with 1 when something is
# not as it should be. `fidelity` needs root.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
if [ "$#" -lt 3 ]; then
  echo "usage: ${0##*/} fidelity|boot DORMOUSE CORPUS-DIR [RELEASE...]" >&2
  exit 2
fi
what=$1 dormouse=$2 corpus=$3
shift 3
[ "$#" -gt 0 ] || set -- bookworm bullseye trixie
all=$([ "$#" -eq 3 ] && echo yes || echo no)
if [ "$what" = fidelity ] && [ "$(id -u)" -ne 0 ]; then
  echo "fidelity: run as root: its oracle is dpkg in a chroot of a mounted image; Dormouse itself needs no root" >&2
  exit 2
fi
"$here/../guests/corpus.sh" "$corpus" "$@"
corpus=$(realpath "$corpus")

# publish FILE TITLE COMMAND...: what a command prints, on standard output and, of all three releases, in the repository.
publish() {
  local file=$1 title=$2 status=0
  shift 2
  "$@" >"$corpus/table" || status=$?
  cat "$corpus/table"
  if [ "$all" = yes ]; then
    { echo "# $title" && echo && echo "Written by \`make $target\`; README.md says how." && echo && cat "$corpus/table"; } >"$here/$file"
  fi
  rm -f "$corpus/table"
  return "$status"
}

case $what in
  fidelity)
    target=fidelity
    "$here/test_compare.py"
    for release in "$@"; do "$here/measure.sh" "$dormouse" "$corpus" "$release"; done
    failed=0
    publish RESULTS.md 'Dormouse measured against dpkg' "$here/results.py" --check "$corpus" "$@" || failed=1
    # Then every binary package of whole security suites, as far as maintainer scripts can tell.
    suites=()
    for release in "$@"; do
      case $release in bookworm | bullseye) suites+=("$release") ;; esac
    done
    if [ "${#suites[@]}" -gt 0 ]; then
      "$here/../guests/security-corpus.sh" "$corpus/suites" "${suites[@]}"
      DORMOUSE_SECURITY_CORPUS="$corpus/suites" DORMOUSE_SECURITY_RELEASES="${suites[*]}" \
        "${CARGO:-cargo}" test --release --locked --quiet -p dormouse-scripts --test security || failed=1
      publish SUITES.md 'Whole security suites, interpreted' "$here/suites.py" --check "$corpus/suites" "${suites[@]}" || failed=1
    fi
    exit "$failed"
    ;;
  boot)
    target=boot-test
    failed=0
    for release in "$@"; do "$here/boot.sh" "$dormouse" "$corpus" "$release" || failed=1; done
    publish BOOT.md 'Patched servers, booted' "$here/results.py" --boot "$corpus" "$@"
    exit "$failed"
    ;;
  *)
    echo "${0##*/}: $what is neither fidelity nor boot" >&2
    exit 2
    ;;
esac
