"""Prints the runs, given as lines of tab-separated fields on standard input, as one table."""

import sys
from collections import defaultdict

HEADER = [
    "engine", "query", "rows", "wall s", "CPU s", "× windrow", "CPU s/M rows", "peak MB", "first result s",
    "broker CPU s", "results", "exact",
]  # fmt: skip

runs = defaultdict(list)
for line in sys.stdin:
    engine, query, rows, wall, cpu, peak, first, broker, results, exact = line.rstrip("\n").split("\t")
    runs[query, engine].append((float(cpu), rows, wall, peak, first, broker, results, exact))

table = [HEADER]
for (query, engine), repeats in runs.items():
    repeats.sort()
    cpu, rows, wall, peak, first, broker, results, _ = repeats[(len(repeats) - 1) // 2]
    verdicts = dict.fromkeys(run[-1] for run in repeats)
    base = sorted(run[0] for run in runs.get((query, "windrow"), []))
    failed = any(verdict.startswith("NO") for verdict in verdicts)
    ratio = f"{cpu / base[(len(base) - 1) // 2]:.1f}" if base and base[0] > 0 and not failed else "-"
    spread = f" ({repeats[0][0]:.2f}–{repeats[-1][0]:.2f})" if len(repeats) > 1 else ""
    table.append([
        engine, query, rows, wall, f"{cpu:.2f}{spread}", ratio, f"{cpu / int(rows) * 1e6:.2f}", peak, first,
        broker, results, "; ".join(verdicts),
    ])  # fmt: skip

widths = [max(len(row[i]) for row in table) for i in range(len(HEADER))]
table.insert(1, ["-" * width for width in widths])
for row in table:
    print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
