#!/usr/bin/env bash
# Runs each case of cases.txt with Flink SQL and with windrow over the same rows, and compares what
# comes out: a file that uses no extension shall give the same rows.
#
#   cargo build --release && benches/beside_flink/run.sh
#
#   WINDROW  the program (default target/release/windrow)
#
# Needs java 17+ (a JDK), mvn and python3; Flink is installed into $WINDROW_CACHE/side-by-side (default
# ~/.cache/windrow). A few minutes. The exit code is 1 when a case is not as cases.txt says.
set -euo pipefail
WINDROW=${WINDROW:-${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/release/windrow}
WINDROW=$(realpath "$(command -v "$WINDROW")") ||
  { echo "run.sh: there is no windrow: run cargo build --release, or set WINDROW" >&2; exit 1; }
# Flink's recipe, and how engines are installed.
cd "$(dirname "$0")/../side_by_side"
# shellcheck source=benches/side_by_side/install.sh
. ./install.sh
HERE=../beside_flink

install flink
work=$(mktemp -d "${TMPDIR:-/tmp}/windrow-beside-flink.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 "$HERE/data.py" "$work"
sed "s|\${DATA}|$work|" "$HERE/tables.sql" >"$work/tables.sql"
release=$(echo "$CACHE"/flink/venv/lib/python*/site-packages/pyflink)
echo "running the cases with Flink" >&2
FLINK_CONF_DIR=flink/conf java -Xmx2g -XX:TieredStopAtLevel=1 @flink/jvm.options \
  -Djava.io.tmpdir="$work" -Dlog4j.configurationFile=../../tests/support/broker/log4j2.properties \
  -cp "$release/lib/*:$CACHE/flink/libs/*" \
  "$HERE/Beside.java" "$work/tables.sql" "$HERE/cases.txt" "$work/results" >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; exit 1; }
python3 "$HERE/compare.py" "$WINDROW" "$HERE/tables.sql" "$HERE/cases.txt" "$work/results" "$work"
