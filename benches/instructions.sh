#!/usr/bin/env bash
# Instructions per record of the decoder and of the walk over record batches, in the steady state: what
# repeats exactly where times drift. Needs valgrind, which knows AVX2 but not AVX-512.
#
#   benches/instructions.sh                 all cases
#   benches/instructions.sh 'json/drift'    those whose name begins so ('records': the walk)
set -euo pipefail
cd "$(dirname "$0")/.."
wanted="${1:-}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

executable() {
  cargo bench --bench "$1" --no-run 2>&1 | tee "$work/build" | sed -n "s/.*Executable benches\/$1.rs (\(.*\))/\1/p"
  grep -q 'Executable' "$work/build" || { cat "$work/build" >&2; exit 1; }
}

# Counts inside one function, a dump for each call; the last one is that of a warm reader.
count() { # executable, function, case, records a call
  rm -f "$work"/out*
  valgrind --tool=callgrind --callgrind-out-file="$work/out" \
    --toggle-collect="$2" --dump-after="$2" "$1" --test "$3" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  local last
  last="$(printf '%s\n' "$work"/out.* | sort -V -r | xargs grep -h '^totals: [1-9]' | head -n 1)"
  awk -v name="$3" -v instructions="${last#totals: }" -v records="$4" \
    'BEGIN { printf "%-36s %8.0f\n", name, instructions / records }'
}

printf '%-36s %8s\n' case 'instructions a record'
decode="$(executable decode)"
decoder='<windrow::decode::json::JsonDecoder as windrow::decode::Decode>::decode'
while read -r name; do
  case "$name" in "$wanted"*) count "$decode" "$decoder" "$name/decode" 8192 ;; esac
done <<'CASES'
json/clickstream 3 of 4
json/telemetry 4 of 7
json/telemetry 7 of 7
json/clickstream shuffled
json/drift, two orders
json/drift, 10 % nulls
json/drift, blanks
json/drift, non-ASCII
json/drift, 5 % escapes
json/payments 3 of 4
CASES

case "records" in "$wanted"*)
  records="$(executable records)"
  for name in 'lz4, rows/direct' 'none, rows/direct'; do
    count "$records" 'records::direct' "$name" 100000
  done ;;
esac
