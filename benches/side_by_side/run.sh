#!/usr/bin/env bash
# Runs the queries of ../drain with windrow and with what else one could use, over the same Kafka
# topics on the same machine, one after the other, and prints one table. See README.md.
#
#   cargo build --release && benches/side_by_side/run.sh
#   ENGINES="windrow flink" QUERIES="q1 q5" ROWS=1000000 REPEAT=3 benches/side_by_side/run.sh
#
#   ENGINES      of windrow flink spark python duckdb (default: all)
#   QUERIES      of q1 q2 q3 q4 q5 (default: all)
#   ROWS         rows in `clicks` (default 10000000); `plays` and `telemetry` hold half as many
#   REPEAT       runs of each engine and query (default 1); the table has the one of median CPU time
#   WINDROW      the program (default target/release/windrow)
#   PARALLELISM  of Flink and Spark (default: the number of processors, which the others use too)
#   HEAP         the most that Flink's and Spark's JVM may have (default 4g)
#   TIMEOUT      seconds after which a run is stopped (default 3600)
#   PORT         the broker's port, and the next one (default 19092)
#
# Needs java 17+, mvn and python3; what else it needs it installs into $WINDROW_CACHE/side-by-side
# (default ~/.cache/windrow). The exit code is 1 when an engine that should be exact was not.
set -euo pipefail
WINDROW=${WINDROW:-${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/release/windrow}
WINDROW=$(realpath "$(command -v "$WINDROW")") ||
  { echo "run.sh: there is no windrow: run cargo build --release, or set WINDROW" >&2; exit 1; }
cd "$(dirname "$0")"
# shellcheck source=benches/broker.sh
. ../broker.sh
# shellcheck source=benches/side_by_side/install.sh
. ./install.sh

read -ra ENGINES <<<"${ENGINES:-windrow flink spark python duckdb}"
read -ra QUERIES <<<"${QUERIES:-q1 q2 q3 q4 q5}"
ROWS=${ROWS:-10000000}
REPEAT=${REPEAT:-1}
PARALLELISM=${PARALLELISM:-$(nproc)}
HEAP=${HEAP:-4g}
TIMEOUT=${TIMEOUT:-3600}
LOG4J=$RECIPE/log4j2.properties

command -v python3 >/dev/null || fail "python3 is missing: apt-get install python3-venv"
for query in "${QUERIES[@]}"; do input_of "$query"; done
for engine in "${ENGINES[@]}"; do
  [ "$engine" = windrow ] || [ -e "$engine/requirements.txt" ] || fail "there is no engine $engine"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/windrow-side-by-side.XXXXXX")
mkdir "$work/tmp"
job=
cleanup() {
  # measure.py stops the processes of the engine.
  [ -z "$job" ] || { kill -TERM "$job" && wait "$job"; } 2>/dev/null || true
  stop_broker
  rm -rf "$work"
}
trap cleanup EXIT

# Sets `command`, which runs the query and puts its results into the folder OUT.
command_of() { # ENGINE QUERY OUT
  local python=$CACHE/$1/venv/bin/python
  case $1 in
    windrow) command=("$WINDROW" run "../drain/$2.sql" --until-end --set BOOTSTRAP="$BOOTSTRAP" --set OUT="$3") ;;
    python) command=("$python" python/loop.py "$2" "$BOOTSTRAP" "$3") ;;
    duckdb) command=("$python" duckdb/run.py "$2" "$work/$topic.json" "$3") ;;
    spark)
      local jars=("$CACHE/spark/libs/"*.jar)
      command=(env -u SPARK_HOME "$python" spark/queries.py "$2" "$BOOTSTRAP" "$3"
        "$(IFS=,; echo "${jars[*]}")" "$PARALLELISM" "$HEAP") ;;
    flink)
      local release
      release=$(echo "$CACHE"/flink/venv/lib/python*/site-packages/pyflink)
      # The same file; where windrow is told by --until-end to stop at the end, Flink is by an option.
      sed -e "s|\${BOOTSTRAP}|$BOOTSTRAP|; s|\${OUT}|$3|" \
        -e "/'scan.startup.mode'/a\\  'scan.bounded.mode' = 'latest-offset'," "../drain/$2.sql" >"$work/flink.sql"
      sed "s|\${PARALLELISM}|$PARALLELISM|" flink/init.sql >"$work/init.sql"
      command=(env FLINK_CONF_DIR=flink/conf java "-Xmx$HEAP" @flink/jvm.options
        -Dlog4j.configurationFile="$LOG4J" -cp "$release/lib/*:$release/opt/*:$CACHE/flink/libs/*"
        org.apache.flink.table.client.SqlClient embedded -i "$work/init.sql" -f "$work/flink.sql") ;;
  esac
}

# Runs one engine once, checks its results, and appends a line to runs.tsv.
run() { # ENGINE QUERY
  local out=$work/out code wall cpu peak first broker_cpu results exact
  command_of "$1" "$2" "$out"
  # What JVMs and Python put into the folder for temporary files goes with ours.
  TMPDIR=$work/tmp JAVA_TOOL_OPTIONS=-Djava.io.tmpdir=$work/tmp \
    python3 measure.py "$out" "$broker" "$TIMEOUT" "${command[@]}" >"$work/engine.log" 2>&1 9>"$work/cost" &
  job=$!
  wait $job || true
  job=
  read -r code wall cpu peak first broker_cpu <"$work/cost" || fail "measure.py: $(tail -n 5 "$work/engine.log")"
  if [ "$code" = 0 ]; then
    read -r results exact < <(python3 check.py "$2" "$work/expected-$2" "$out")
  else
    results=0 exact="NO: it ended with code $code"
  fi
  rm -rf "${out:?}" "$out.checkpoint" "$work/tmp/"*
  case $1:$exact in
    *:yes | spark:keeps*) ;;
    *) tail -n 30 "$work/engine.log" >&2; exit_code=1 ;;
  esac
  echo "$1 $2: $wall s, CPU $cpu s, results: $results, exact: $exact" >&2
  printf '%s\t' "$1" "$2" "$rows" "$wall" "$cpu" "$peak" "$first" "$broker_cpu" "$results" >>"$work/runs.tsv"
  echo "$exact" >>"$work/runs.tsv"
}

installed=() missing=()
for engine in "${ENGINES[@]}"; do
  if [ "$engine" = windrow ] || install "$engine"; then installed+=("$engine"); else missing+=("$engine"); fi
done
fetch_jars
start_broker

exit_code=0
: >"$work/runs.tsv"
for query in "${QUERIES[@]}"; do
  input_of "$query"
  fill "$topic" "$dataset" "$rows"
  [ -e "$work/$topic.json" ] || consume "$topic" "$rows" >"$work/$topic.json" || fail "cannot read topic $topic"
  awk -v q="$query" -v by_window=1 -f ../drain/expect.awk "$work/$topic.json" >"$work/expected-$query"
  for ((i = 0; i < REPEAT; i++)); do
    for engine in "${installed[@]}"; do run "$engine" "$query"; done
  done
done

python3 table.py <"$work/runs.tsv"
echo
echo "Wall and CPU time include the start of the program, of a JVM most of all."
[ ${#missing[@]} = 0 ] || echo "Could not be installed, so left out: ${missing[*]}"
echo "$(date -u '+%Y-%m-%d %H:%M UTC'), $(nproc) processors:$(awk -F: '/^model name/ { print $2; exit }' /proc/cpuinfo)," \
  "Linux $(uname -r), $(java -version 2>&1 | head -n 1), Kafka $KAFKA"
"$WINDROW" --version
for engine in "${installed[@]}"; do
  [ "$engine" = windrow ] || echo "$engine: $(grep '==' "$engine/requirements.txt" | tr '\n' ' ')"
done
exit $exit_code
