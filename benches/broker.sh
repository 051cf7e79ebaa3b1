# What the benches over Kafka share: one broker, its topics full of rows. To be sourced by a script
# that has set ROWS (rows in `clicks`; `plays` and `telemetry` hold half as many), WINDROW (the
# program, which generates the rows) and `work` (a folder that the script removes at its end), and
# that calls stop_broker at its end.
# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # variables shared with that script

PARTITIONS=4
KAFKA=4.1.1
KAFKA_CACHE=${WINDROW_CACHE:-$HOME/.cache/windrow}/kafka-$KAFKA
RECIPE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/support/broker" && pwd)
broker=

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# The jars, in the cache that the tests use too (same lock, same marker).
fetch_jars() {
  command -v java >/dev/null || fail "java is missing: apt-get install default-jre-headless"
  mkdir -p "$KAFKA_CACHE"
  exec 9>"$KAFKA_CACHE/lock"
  flock 9
  if [ ! -e "$KAFKA_CACHE/complete" ]; then
    command -v mvn >/dev/null || fail "mvn is missing: apt-get install maven"
    rm -rf "$KAFKA_CACHE/libs"
    mvn -B -q -f "$RECIPE/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$KAFKA_CACHE/libs" >&2 || fail "mvn could not fetch Kafka $KAFKA"
    printf %s "$KAFKA" >"$KAFKA_CACHE/complete"
  fi
  exec 9>&-
}

# kafka_tool CLASS ARGUMENT…
kafka_tool() {
  java -Xmx512m -XX:+UseSerialGC -Dlog4j2.configurationFile="$RECIPE/log4j2.properties" -cp "$KAFKA_CACHE/libs/*" "$@"
}

# Sets BOOTSTRAP, and `broker` to the process id.
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
  java -Xmx1g -Dlog4j2.configurationFile="$RECIPE/log4j2.properties" -cp "$KAFKA_CACHE/libs/*" \
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

stop_broker() {
  [ -z "$broker" ] || { kill -KILL "$broker"; wait "$broker" 2>/dev/null; } || true
}

offsets() { # TOPIC: records in it, 0 when there is none
  { kafka_tool org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$BOOTSTRAP" --topic "$1" 2>/dev/null || true; } |
    awk -F: '{ n += $3 } END { print n + 0 }'
}

# Sets topic, dataset and rows of a query.
input_of() { # QUERY
  case $1 in
    q1) topic=clicks dataset=clickstream rows=$ROWS ;;
    q2) topic=plays dataset=plays rows=$((ROWS / 2)) ;;
    q3 | q4 | q5) topic=telemetry dataset=telemetry rows=$((ROWS / 2)) ;;
    *) fail "there is no query $1: q1 to q5" ;;
  esac
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

consume() { # TOPIC ROWS: its records, by Kafka's own consumer
  kafka_tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$BOOTSTRAP" --topic "$1" \
    --from-beginning --max-messages "$2" 2>/dev/null
}
