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

ROWS=${ROWS:-10000000}
CHECK=${CHECK:-1}
PARTITIONS=4
KAFKA=4.1.1
CACHE=${WINDROW_CACHE:-$HOME/.cache/windrow}/kafka-$KAFKA
RECIPE=../../tests/support/broker
WINDROW=${WINDROW:-${CARGO_TARGET_DIR:-../../target}/release/windrow}
QUERIES=("$@")
[ $# -gt 0 ] || QUERIES=(q1 q2 q3 q4 q5)

fail() { echo "drain.sh: $*" >&2; exit 1; }
command -v "$WINDROW" >/dev/null || fail "there is no $WINDROW: run cargo build --release, or set WINDROW"
command -v java >/dev/null || fail "java is missing: apt-get install default-jre-headless"

work=$(mktemp -d "${TMPDIR:-/tmp}/windrow-drain.XXXXXX")
broker=
cleanup() {
  [ -z "$broker" ] || { kill -KILL "$broker"; wait "$broker" 2>/dev/null; } || true
  rm -rf "$work"
}
trap cleanup EXIT

# The jars, in the cache that the tests use too (same lock, same marker).
fetch_jars() {
  mkdir -p "$CACHE"
  exec 9>"$CACHE/lock"
  flock 9
  if [ ! -e "$CACHE/complete" ]; then
    command -v mvn >/dev/null || fail "mvn is missing: apt-get install maven"
    rm -rf "$CACHE/libs"
    mvn -B -q -f "$RECIPE/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$CACHE/libs" >&2 || fail "mvn could not fetch Kafka $KAFKA"
    printf %s "$KAFKA" >"$CACHE/complete"
  fi
  exec 9>&-
}

# kafka_tool CLASS ARGUMENT…
kafka_tool() {
  java -Xmx512m -XX:+UseSerialGC -Dlog4j2.configurationFile="$RECIPE/log4j2.properties" -cp "$CACHE/libs/*" "$@"
}

start_broker() {
  local port=${PORT:-19092}
  BOOTSTRAP=127.0.0.1:$port
  { cat "$RECIPE/server.properties"
    echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))"
    echo "controller.quorum.voters=1@127.0.0.1:$((port + 1))"
    echo "log.dirs=$work/data"
  } >"$work/server.properties"
  kafka_tool kafka.tools.StorageTool format -t d2luZHJvdy10ZXN0LWJrcg -c "$work/server.properties" >"$work/format.log"
  mkfifo "$work/log"
  java -Xmx1g -Dlog4j2.configurationFile="$RECIPE/log4j2.properties" -cp "$CACHE/libs/*" \
    kafka.Kafka "$work/server.properties" >"$work/log" 2>&1 &
  broker=$!
  # Opened for the whole run: the broker must have somebody to write to. The loop ends at the
  # line that says that it has started, or when the process does.
  exec 8<"$work/log"
  local line started=
  while read -r line <&8; do
    [[ $line == *"Kafka Server started" ]] && { started=1; break; }
    echo "broker: $line" >&2
  done
  [ -n "$started" ] || fail "the broker did not start (is port $port in use? set PORT)"
  cat <&8 >"$work/broker.log" &
}

offsets() { # TOPIC: records in it, 0 when there is none
  { kafka_tool org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$BOOTSTRAP" --topic "$1" 2>/dev/null || true; } |
    awk -F: '{ n += $3 } END { print n + 0 }'
}

fill() { # TOPIC DATASET ROWS
  local have
  have=$(offsets "$1")
  [ "$have" = "$3" ] && return
  [ "$have" = 0 ] || fail "topic $1 holds $have records, not $3: delete it, or set ROWS"
  kafka_tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$BOOTSTRAP" --create --if-not-exists \
    --topic "$1" --partitions $PARTITIONS --replication-factor 1 >&2
  echo "filling $1 with $3 rows" >&2
  "$WINDROW" produce --bootstrap "$BOOTSTRAP" --topic "$1" --generate "$2" --rows "$3" \
    --property compression.type=lz4 >&2
  have=$(offsets "$1")
  [ "$have" = "$3" ] || fail "topic $1 holds $have records after filling it, not $3"
}

# expected QUERY TOPIC ROWS: rows and total, by Kafka's own consumer and awk
expected() {
  kafka_tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$BOOTSTRAP" --topic "$2" \
    --from-beginning --max-messages "$3" 2>/dev/null | awk -v q="$1" -f expect.awk
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
  case $query in
    q1) topic=clicks dataset=clickstream rows=$ROWS ;;
    q2) topic=plays dataset=plays rows=$((ROWS / 2)) ;;
    q3 | q4 | q5) topic=telemetry dataset=telemetry rows=$((ROWS / 2)) ;;
    *) fail "there is no query $query: q1 to q5" ;;
  esac
  fill $topic $dataset "$rows"
  measure "$query"
  read -r results total < <(actual "$query")
  exact=-
  if [ "$CHECK" != 0 ]; then
    exact=yes
    want=$(expected "$query" $topic "$rows")
    [ "$want" = "$results $total" ] || { exact="NO: rows and total are $results $total, expected $want"; exit_code=1; }
  fi
  printf '%-4s %10d %8s %8s %12s %9d %10d %s\n' "$query" "$rows" "$wall" "$cpu" \
    "$(awk "BEGIN { printf \"%.3f\", $cpu / $rows * 1e6 }")" "$peak" "$results" "$exact"
done
exit $exit_code
