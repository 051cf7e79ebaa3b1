"""Compares the results of a query with the expected ones, window by window.

check.py QUERY EXPECTED OUT: prints the number of result rows, and `yes`, `keeps N rows back` when
nothing is missing but windows that the watermark has not reached, or `NO: …`. EXPECTED is from
expect.awk: per window its start (seconds since 2000), its rows and their total.
"""

import json
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

# What expect.awk adds up, and the seconds of a window.
QUERIES = {"q1": ("views", 10), "q2": ("plays", 60), "q3": ("max_cpu", 60), "q4": ("down", 10), "q5": ("reports", 10)}
DELAY = 5  # seconds by which the watermark is behind

query, expected_file, out = sys.argv[1:]
column, size = QUERIES[query]

expected_rows, expected_totals = Counter(), Counter()
with open(expected_file) as expected:
    for line in expected:
        window, count, total = map(int, line.split())
        expected_rows[window], expected_totals[window] = count, total

texts = {}  # the start of each window, as written: there are few windows and many rows
rows, totals = Counter(), Counter()
for path in Path(out).rglob("[!._]*"):
    if not path.is_file() or any(part.startswith("_") for part in path.relative_to(out).parts):
        continue
    with open(path) as results:
        for line in results:
            row = json.loads(line)
            text = row["window_start"][:19]
            if text not in texts:
                texts[text] = int((datetime.fromisoformat(text) - datetime(2000, 1, 1)).total_seconds())
            rows[texts[text]] += 1
            totals[texts[text]] += row[column]

wrong = [w for w in rows | expected_rows if (rows[w], totals[w]) != (expected_rows[w], expected_totals[w])]
# The watermark at the end is at least this, as there was an event in the last window.
watermark = max(expected_rows) - DELAY
if not wrong:
    verdict = "yes"
elif all(rows[w] == 0 and w + size > watermark for w in wrong):
    verdict = f"keeps {expected_rows.total() - rows.total()} rows back"
else:
    verdict = (
        f"NO: rows and total are {rows.total()} {totals.total()}, "
        f"expected {expected_rows.total()} {expected_totals.total()}; {len(wrong)} windows differ"
    )
print(rows.total(), verdict)
