"""Runs the cases with windrow, and compares with what Flink gave.

compare.py WINDROW TABLES CASES RESULTS FOLDER: prints each case that is not as cases.txt says, and the
counts. The exit code is 1 when there is such a case.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

windrow, tables, cases_file, results, folder = sys.argv[1:]
tables = Path(tables).read_text()
cases = Path(cases_file).read_text().splitlines()
flink = {}
for line in Path(results).read_text().splitlines():
    number, outcome, rows = line.split("\t", 2)
    flink[int(number)] = (outcome, rows)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plain(value):
    """Timestamps without zeros at their end, a row as the list of its values."""
    if isinstance(value, str):
        time = re.fullmatch(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?Z?", value)
        return value if not time else time[1] + " " + time[2] + (time[3] or "").rstrip("0").rstrip(".")
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    # Ten digits: sums of doubles depend on their order.
    return float(f"{value:.10g}") if isinstance(value, float) else value


def same(ours, theirs):
    if isinstance(ours, dict) and isinstance(theirs, list):
        ours = list(ours.values())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, int) and isinstance(theirs, int) and not isinstance(ours, bool):
        return ours == theirs
    if is_number(ours) and is_number(theirs):
        return abs(ours - theirs) <= 1e-9 * max(1, abs(ours), abs(theirs))
    return type(ours) is type(theirs) and ours == theirs


def run(number, case):
    """Our rows, or the error's first line."""
    query = f"SELECT id, {case[2:]} AS x FROM ev" if case.startswith("E ") else case[2:]
    file = Path(folder) / f"{number}.sql"
    file.write_text(f"{tables}\n{query};\n")
    command = [windrow, "run", str(file), "--until-end", "--format", "json", "--set", f"DATA={folder}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if ended.returncode != 0:
        return None, ended.stderr.strip().split("\n")[0]
    return [list(json.loads(row).values()) for row in ended.stdout.splitlines()], ""


counts, wrong = Counter(), 0
for number, case in enumerate(cases):
    if case[:2] not in ("E ", "Q "):
        continue
    known = cases[number + 1].startswith("! ") if number + 1 < len(cases) else False
    outcome, theirs = flink[number]
    ours, error = run(number, case)
    if outcome != "OK":
        found = "Flink refuses it"
    elif ours is None:
        found = "windrow refuses it"
    else:
        theirs = plain(json.loads(theirs))
        if case.startswith("E "):
            ours = [plain(row[1]) for row in sorted(ours)]
        else:
            ours, theirs = (sorted((plain(row) for row in rows), key=json.dumps) for rows in (ours, theirs))
        found = "same" if same(ours, theirs) else "other rows"
    kind = "expressions" if case.startswith("E ") else "queries"
    counts[kind, found] += 1
    if (found in ("other rows", "windrow refuses it")) != known:
        wrong += 1
        print(f"{found}: {case}")
        if error:
            print(f"  {error}")
        elif found == "other rows":
            pairs = [p for p in zip(ours, theirs) if not same(*p)]
            print(f"  {len(ours)} and {len(theirs)} rows", *(f"  windrow {a}, Flink {b}" for a, b in pairs[:2]), sep="\n")

for (kind, found), count in sorted(counts.items()):
    print(f"{count:4} {kind}: {found}")
print(f"{wrong} cases are not as {Path(cases_file).name} says")
sys.exit(wrong > 0)
