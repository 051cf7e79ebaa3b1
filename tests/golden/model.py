#!/usr/bin/env python3
"""What each queries/*.sql must give over datasets/, worked out row by row.

Naive on purpose, and apart from windrow's code: one partition, a dictionary of windows, every
row looked at by itself. Writes one JSON array per result beside this file, and counts.json
(rows, bad records, late rows).

    python3 tests/golden/model.py          # writes
    python3 tests/golden/model.py --check  # exit code 1 when a file would change
"""

import csv
import json
import re
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATASETS = HERE.parent.parent / "datasets"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DELAY = timedelta(seconds=5)
FIRST_RIDE = datetime(2023, 3, 1, 8, tzinfo=timezone.utc)
counts = {}


class Bad(Exception):
    """The record is no row."""


# Column types: a JSON value becomes a column's value, or the record is bad.


def text(value):
    if value is None or isinstance(value, str):
        return value
    raise Bad(value)


def integer(value):
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise Bad(value)


def timestamp(value):
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)", value) if isinstance(value, str) else None
    if not match:
        raise Bad(value)
    try:
        parsed = datetime.strptime(" ".join(match.groups()), "%Y-%m-%d %H:%M:%S")
    except ValueError:
        raise Bad(value)
    return parsed.replace(tzinfo=timezone.utc)


def read(query, dataset, columns, time=None):
    """The rows of a data set, each as (row, its place in the file); bad records are counted."""
    rows, bad = [], 0
    lines = (DATASETS / f"{dataset}.ndjson").read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise Bad(record)
            row = {name: kind(record.get(name)) for name, kind in columns.items()}
            if time and row[time] is None:
                raise Bad("no event time")
            rows.append((row, place))
        except (ValueError, Bad):
            bad += 1
    counts[query] = {"rows": len(rows), "bad": bad, "late": 0}
    return rows


def windows(time, size, slide):
    """All windows [start, end) of the epoch's grid that hold a time, by walking back from it."""
    size, slide = timedelta(seconds=size), timedelta(seconds=slide)
    start = EPOCH + (time - EPOCH) // slide * slide
    while start + size > time:
        yield start, start + size
        start -= slide


def by_window(query, rows, time, size, slide=None):
    """(window start, window end) -> its rows in order. `time` gives a row's event time."""
    result, watermark = defaultdict(list), None
    for row in rows:
        when = time(row)
        still_open = [w for w in windows(when, size, slide or size) if watermark is None or w[1] > watermark]
        if not still_open:
            counts[query]["late"] += 1
        for window in still_open:
            result[window].append(row)
        # Judged by the watermark before this row; filters come later and do not hold it back.
        watermark = max(watermark, when - DELAY) if watermark else when - DELAY
    return sorted(result.items())


def shown(time):
    return time.strftime("%Y-%m-%d %H:%M:%S")


def windowed(window, **columns):
    return {"window_start": shown(window[0]), "window_end": shown(window[1]), **columns}


def views_per_page():
    columns = {"timestamp": timestamp, "page": text, "action": text}
    rows = [r for r, _ in read("views_per_page", "clickstream", columns, "timestamp")]
    for window, members in by_window("views_per_page", rows, lambda r: r["timestamp"], 10):
        views = Counter(r["page"] for r in members if r["action"] == "view")
        for page in sorted(views):
            yield windowed(window, page=page, views=views[page])


def page_counts():
    # The table declares no time, so a record with a broken one is a row.
    rows = [r for r, _ in read("page_counts", "clickstream", {"page": text, "action": text})]
    views = Counter(r["page"] for r in rows if r["action"] == "view")
    for page, count in sorted(views.items(), key=lambda item: (-item[1], item[0])):
        yield {"page": page, "count": count}


def top_songs():
    columns = {"user_id": integer, "artist": text, "song_id": integer, "song_name": text,
               "event_type": text, "timestamp": timestamp}
    rows = [r for r, _ in read("top_songs", "plays", columns, "timestamp")]
    for window, members in by_window("top_songs", rows, lambda r: r["timestamp"], 60):
        songs = Counter((r["song_id"], r["song_name"], r["artist"])
                        for r in members if r["event_type"] == "song_completed")
        ranked = sorted(songs.items(), key=lambda item: (-item[1], item[0][0]))
        for place, ((song_id, song_name, artist), plays) in enumerate(ranked[:10], 1):
            yield windowed(window, place=place, song_id=song_id, song_name=song_name, artist=artist, plays=plays)


TELEMETRY = {"model": text, "deviceid": text, "interface": text, "interfacestatus": text,
             "cpuusage": text, "memoryusage": text, "event_time": timestamp}


def model_cpu_alerts():
    rows = [r for r, _ in read("model_cpu_alerts", "telemetry", TELEMETRY, "event_time")]
    for window, members in by_window("model_cpu_alerts", rows, lambda r: r["event_time"], 60, 10):
        loads = defaultdict(list)
        for row in members:
            loads[row["model"]].append(int(row["cpuusage"]))
        for model in sorted(loads):
            average = sum(loads[model]) / len(loads[model])
            if average > 75:
                yield windowed(window, model=model, avg_cpu=average, max_cpu=max(loads[model]))


def down_interfaces():
    rows = [r for r, _ in read("down_interfaces", "telemetry", TELEMETRY, "event_time")]
    for window, members in by_window("down_interfaces", rows, lambda r: r["event_time"], 10):
        down = Counter(r["model"] for r in members if r["interfacestatus"] == "down")
        for model in sorted(down):
            yield windowed(window, model=model, down=down[model])


def user_numbers():
    columns = {"user": text, "number": integer, "timestampInEpoch": integer}
    rows = [r for r, _ in read("user_numbers", "user_numbers", columns, "timestampInEpoch")]
    event_time = lambda r: EPOCH + timedelta(seconds=r["timestampInEpoch"])
    for window, members in by_window("user_numbers", rows, event_time, 60):
        totals = Counter()
        for row in members:
            totals[row["user"]] += row["number"]
        for user in sorted(totals):
            yield windowed(window, user=user, total=totals[user])


def confirmed():
    """(ride, the timestamp of its record): record i of the file happened i seconds after the first."""
    with open(DATASETS / "customers.csv", encoding="utf-8", newline="") as file:
        customers = {int(number): (name, tier) for number, name, tier in csv.reader(file)}
    columns = {"id": integer, "customer_id": integer, "location": text}
    for ride, place in read("confirmed_rides", "rides", columns):
        if ride["customer_id"] not in customers:
            continue
        name, tier = customers[ride["customer_id"]]
        latitude, longitude = (float(part.split(":")[1]) for part in ride["location"].split(","))
        row = {"id": ride["id"], "customer_id": ride["customer_id"], "customer": name, "tier": tier,
               "latitude": latitude, "longitude": longitude}
        yield row, FIRST_RIDE + timedelta(seconds=place)


def confirmed_rides():
    return (row for row, _ in confirmed())


def confirmed_rides_per_5_minutes():
    rides = list(confirmed())
    name = "confirmed_rides_per_5_minutes"
    counts[name] = {"rows": len(rides), "bad": 0, "late": 0}
    for window, members in by_window(name, rides, lambda r: r[1], 300):
        yield windowed(window, rides=len(members))


RESULTS = [views_per_page, page_counts, top_songs, model_cpu_alerts, down_interfaces, user_numbers,
           confirmed_rides, confirmed_rides_per_5_minutes]


def lines(rows):
    return "[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n]\n"


def main():
    files = {f"{result.__name__}.json": lines(list(result())) for result in RESULTS}
    files["counts.json"] = json.dumps(counts, indent=1) + "\n"
    changed = [n for n, content in files.items()
               if not (HERE / n).exists() or (HERE / n).read_text(encoding="utf-8") != content]
    if "--check" in sys.argv[1:]:
        for name in changed:
            print(f"tests/golden/{name} is not what the model gives", file=sys.stderr)
        return 1 if changed else 0
    for name in changed:
        (HERE / name).write_text(files[name], encoding="utf-8")
        print(f"wrote tests/golden/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
