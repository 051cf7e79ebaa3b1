#!/usr/bin/env bash
# Drains full Kafka topics through q1.sql … q5.sql and prints what it cost.
#
#   cargo build --release && benches/drain/drain.sh            # Q1 to Q5
#   benches/drain/drain.sh q1 q5                               # some of them
#
#   BOOTSTRAP  broker to use; it keeps the topics clicks, plays and telemetry. Not set: starts one
#              Apache Kafka 4.1.1 (needs java 17+, and mvn the first time), and removes it at the end.
#   ROWS       rows in `clicks` (default 10000000); `plays` and `telemetry` hold half as many
#   WINDROW    the program (default target/release/windrow)
#   RUN_ARGS   more arguments for `windrow run`, such as "--workers 1"
#   CHECK=0    does not count the expected results with awk, which takes a few minutes
#
# CPU seconds are user + system of the engine's process, start included. Peak memory is VmHWM.
set -euo pipefail
[ -z "${WINDROW:-}" ] || WINDROW=$(command -v "$WINDROW") || { echo "drain.sh: there is no such WINDROW" >&2; exit 1; }
[ -z "${WINDROW:-}" ] || WINDROW=$(realpath "$WINDROW")
cd "$(dirname "$0")"
# shellcheck source=benches/broker.sh
. ../broker.sh

ROWS=${ROWS:-10000000}
CHECK=${CHECK:-1}
WINDROW=${WINDROW:-${CARGO_TARGET_DIR:-../../target}/release/windrow}
QUERIES=("$@")
[ $# -gt 0 ] || QUERIES=(q1 q2 q3 q4 q5)

command -v "$WINDROW" >/dev/null || fail "there is no $WINDROW: run cargo build --release, or set WINDROW"

work=$(mktemp -d "${TMPDIR:-/tmp}/windrow-drain.XXXXXX")
cleanup() {
  stop_broker
  rm -rf "$work"
}
trap cleanup EXIT

# expected QUERY TOPIC ROWS: rows and total, by Kafka's own consumer and awk
expected() {
  consume "$2" "$3" | awk -v q="$1" -f expect.awk
}

# actual QUERY: rows and total of what the query wrote
actual() {
  local column
  case $1 in q1) column=views ;; q2) column=plays ;; q3) column=max_cpu ;; q4) column=down ;; q5) column=reports ;; esac
  find "$work/out-$1" -type f ! -name '.*' ! -name '_*' -exec cat {} + |
    awk -v f="\"$column\":" '{ rows++; total += substr($0, index($0, f) + length(f)) + 0 } END { printf "%d %d\n", rows, total }'
}

# Runs one query; sets wall, cpu (seconds) and peak (MB).
measure() {
  local pid code=0 kb peak_kb=0 user system
  # A shell that notes its process id and becomes the engine; the exit keeps bash from becoming
  # that shell itself, which would leave nobody to print the times.
  # shellcheck disable=SC2016,SC2086  # expanded by that shell; RUN_ARGS is a list
  ( TIMEFORMAT='%R %U %S'
    time bash -c 'echo $$ >"$0.new" && mv "$0.new" "$0.pid" && exec "$@" >"$0.out" 2>"$0.err"' "$work/$1" \
      "$WINDROW" run "$1.sql" --until-end --set BOOTSTRAP="$BOOTSTRAP" --set OUT="$work/out-$1" ${RUN_ARGS:-}
    exit $? ) 2>"$work/time" &
  local job=$!
  # VmHWM only grows, so the last reading before the end misses little.
  while kill -0 $job 2>/dev/null; do
    pid=$(cat "$work/$1.pid" 2>/dev/null || true)
    kb=$(awk '/^VmHWM/ { print $2 }' "/proc/${pid:-none}/status" 2>/dev/null || true)
    [ -z "$kb" ] || peak_kb=$kb
    sleep 0.05
  done
  wait $job || code=$?
  [ $code = 0 ] || { cat "$work/$1.err" >&2; fail "$1.sql ended with code $code"; }
  read -r wall user system <"$work/time"
  cpu=$(awk "BEGIN { printf \"%.2f\", $user + $system }")
  peak=$((peak_kb / 1024))
}

fetch_jars
[ -n "${BOOTSTRAP:-}" ] || start_broker

exit_code=0
printf '%-4s %10s %8s %8s %12s %9s %10s %s\n' query rows "wall s" "CPU s" "CPU s/M rows" "peak MB" "results" "exact"
for query in "${QUERIES[@]}"; do
  input_of "$query"
  fill "$topic" "$dataset" "$rows"
  measure "$query"
  read -r results total < <(actual "$query")
  exact=-
  if [ "$CHECK" != 0 ]; then
    exact=yes
    want=$(expected "$query" "$topic" "$rows")
    [ "$want" = "$results $total" ] || { exact="NO: rows and total are $results $total, expected $want"; exit_code=1; }
  fi
  printf '%-4s %10d %8s %8s %12s %9d %10d %s\n' "$query" "$rows" "$wall" "$cpu" \
    "$(awk "BEGIN { printf \"%.3f\", $cpu / $rows * 1e6 }")" "$peak" "$results" "$exact"
done
exit $exit_code
