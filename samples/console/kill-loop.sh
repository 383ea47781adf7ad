#!/usr/bin/env bash
# Kills a run at random moments, so many times, then lets it finish and checks what it says.
#   samples/console/kill-loop.sh DIR ROUNDS
# DIR is the folder to take in. The environment may set LOCUS_CONSOLE (the binary), DATA (a directory that is not there
# yet), SECONDS_MAX (longest time before a kill) and RUN_ARGS (the other arguments of `run`, for example
# `--inline 0` or `--landing-zone 4MiB`).
set -euo pipefail

input=${1:?usage: kill-loop.sh DIR ROUNDS}
rounds=${2:?usage: kill-loop.sh DIR ROUNDS}
repository=$(cd "$(dirname "$0")/../.." && pwd)
binary=${LOCUS_CONSOLE:-$repository/target/release/locus-console}
seconds_max=${SECONDS_MAX:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
data=${DATA:-$work/data}
[[ -e $data ]] && { echo "$data is there already" >&2; exit 2; }

read -r -a args <<<"${RUN_ARGS:---volumes 2 --tenants 4 --workers 16 --fail-percent 5 --max-deliveries 1000}"
run() { exec "$binary" run --input "$input" --data "$data" "${args[@]}" --json; }

for ((round = 1; round <= rounds; round++)); do
  run >/dev/null 2>"$work/stderr" &
  child=$!
  sleep "$(awk -v max="$seconds_max" -v seed="$RANDOM" 'BEGIN { srand(seed); printf "%.3f", rand() * max }')"
  if kill -KILL "$child" 2>/dev/null; then
    wait "$child" 2>/dev/null || true
    echo "round $round: killed"
  elif wait "$child"; then
    echo "round $round: finished before it was killed"
  else
    echo "round $round failed by itself:" >&2
    cat "$work/stderr" >&2
    exit 1
  fi
done

(run >"$work/stdout" 2>"$work/stderr") || { echo "the last run failed:" >&2; cat "$work/stdout" "$work/stderr" >&2; exit 1; }
report=$(tail -n 1 "$work/stdout")
echo "$report"

# The number that the report has under this name.
number() { grep -o "\"$1\":[0-9]*" <<<"$report" | cut -d : -f 2; }
fail() { echo "FAILED: $1" >&2; exit 1; }

[[ $(number files) -gt 0 ]] || fail "nothing was taken in"
[[ $(number completed) -eq $(number files) ]] || fail "not every file was completed"
[[ $(number completed_now) -eq $(($(number recovered) + $(number files_now))) ]] || fail "a file was lost or processed twice"
for none in pending mismatched permanently_failed; do
  [[ $(number "$none") -eq 0 ]] || fail "$none is not 0"
done

expected=$(find -P "$input" \( -name .git -o -path "$data" -o \( -type d -name target \) \) -prune -o -type f -print0 |
  tr -dc '\0' | wc -c)
[[ $(($(number files) + $(number skipped))) -eq $expected ]] || fail "the folder has $expected files"

left=$(find "$data"/vol-* -type f ! -name .locus-volume)
[[ -z $left ]] || fail "left on the volumes: $left"

report=$("$binary" status --data "$data" --json)
for place in in_journal on_volumes; do
  [[ $(number "$place") -eq 0 ]] || fail "status says that $place is not 0: $report"
done
report=$(grep -o '"total":{[^}]*}' <<<"$report")
for state in pending delayed processing completed permanently_failed deleted bytes; do
  [[ $(number "$state") -eq 0 ]] || fail "status says that $state is not 0: $report"
done
echo "all completed, nothing lost, nothing twice, nothing left"
