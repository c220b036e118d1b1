#!/usr/bin/env bash
# Runs the demo pipeline on the demo's library. Ends with 0 when the run ended as it should: with exit code 3, because
# one image is truncated.
#
#   demo.sh DORMOUSE DEMO-DIR
set -euo pipefail
dormouse=$(realpath "$1")
demo=$(realpath "$2")
definition=$(realpath "$(dirname "$0")/../pipelines/definitions/demo.toml")
[ -f "$demo/key.pem" ] || "$dormouse" key generate "$demo/key.pem" >/dev/null
status=0
"$dormouse" run "$definition" "$demo/library" --output "$demo/results" --state "$demo/state" \
  --key "$demo/key.pem" --format table || status=$?
if [ "$status" -ne 3 ]; then
  echo "demo: the run ended with exit code $status; 3 was expected, for broken-01 is truncated" >&2
  exit 1
fi
mapfile -t evidence < <(find "$demo/results/evidence" -name '*.dsse.json' | sort)
"$dormouse" verify "${evidence[@]}" --key "$demo/key.pem.pub" --library "$demo/library" --format table
cat <<END

The run ended with exit code 3, as it should: broken-01 is truncated, so the answer is incomplete. Look at:
  $demo/results/report.html      the page
  $demo/results/report.json      the same as JSON
  $demo/results/images/          patched overlays of the cold machines
  $demo/results/catch-up/        plans and scripts for the points that must not be touched
  $demo/results/evidence/        signed statements, verified above
  sqlite3 $demo/state/dormouse.db "select machine, name, power, verdict, after from restore_points"
END
