#!/usr/bin/env bash
# Prints the latency of a query over 1 s windows at a steady rate, and the CPU it takes when idle.
#
#   cargo build --release && benches/latency/latency.sh
#   SECONDS_LONG=120 RATE=10000 WINDROW=path/to/windrow PORT=19092 benches/latency/latency.sh
#
# A latency is the time from the broker's answer to the record that closes a window to the window's
# first row. (It can be negative: the answer to the producer may come later than the result.)
# Needs java 17+, mvn and python3.
set -euo pipefail
WINDROW=${WINDROW:-${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/release/windrow}
WINDROW=$(realpath "$(command -v "$WINDROW")") ||
  { echo "latency.sh: there is no windrow: run cargo build --release, or set WINDROW" >&2; exit 1; }
cd "$(dirname "$0")"
# shellcheck source=benches/broker.sh
. ../broker.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/windrow-latency.XXXXXX")
trap 'stop_broker; rm -rf "$work"' EXIT
venv=${WINDROW_CACHE:-$HOME/.cache/windrow}/latency
[ -x "$venv/bin/python3" ] || { python3 -m venv "$venv" && "$venv/bin/pip" -q install confluent-kafka; }
fetch_jars
start_broker
"$WINDROW" topics create latency --partitions 1 --bootstrap-server "$BOOTSTRAP" >&2
"$venv/bin/python3" measure.py "$WINDROW" "$BOOTSTRAP" "${SECONDS_LONG:-60}" "${RATE:-10000}"
