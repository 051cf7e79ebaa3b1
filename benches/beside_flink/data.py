"""Writes the rows of tables.sql into the folder that is named: values that are easily read another way."""

import json
import random
import sys
from pathlib import Path

random.seed(7)
folder = Path(sys.argv[1])
TEXTS = [
    "", " ", "abc", "Hello World", "ümläut ÄÖ", "日本語", "a,b,,c", "foo-123-bar", "  pad  ", "UPPER lower",
    "x'y\"z", "12", "-7", "3.75", "1e3", "true", "2024-02-29", "2024-02-29 12:34:56.789", "null", "😀 emoji",
    '{"a":{"b":[1,2,{"c":"d"}]},"n":null,"t":true,"f":1.5}', "http://host.com:80/p/a?x=1&y=2#frag", "tab\tnl\n",
]


def write(name, rows):
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / name).write_text("".join(lines))


def event(n):
    one_of = random.choice
    return {
        "id": n,
        "k": one_of(["a", "b", "c", None]),
        "s": TEXTS[n % len(TEXTS)] if n % 11 else None,
        "i": one_of([None, 0, 1, -1, 7, -7, 2147483647, -2147483648, 42, 100]),
        "b": one_of([None, 0, 5, -5, 9007199254740993, -3000000000]),
        "d": one_of([None, 0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.14159, 1e10, 1e-7, 123456.789]),
        "dec": one_of([None, 0.0, 1.25, -1.25, 2.5, 99999999.99, 12.34]),
        "t": one_of([True, False, None]),
        "dt": one_of(["2024-02-29", "1969-12-31", "2023-01-01", "2000-12-31", None]),
        "tm": one_of(["12:34:56", "00:00:00", "23:59:59"]),
        "ts": "2024-%02d-%02d %02d:%02d:%02d.%03d"
        % (1 + n % 3, 1 + n % 28, n % 24, n * 7 % 60, n * 13 % 60, n * 37 % 1000),
        "arr": one_of([None, [], [1, 2, 3], [5, None, 7], [3, 1, 2]]),
        "m": one_of([None, {}, {"x": 1, "y": 2}, {"x": None}]),
        "r": one_of([None, {"x": 1, "y": "q"}, {"x": None, "y": "z"}]),
    }


def time(ms):
    return "2024-03-01 12:%02d:%02d.%03d" % (ms // 60000, ms // 1000 % 60, ms % 1000)


def click(n):
    # Up to four seconds out of order, so that no row is late.
    return {
        "uid": random.choice(["u1", "u2", "u3", "u4", "u5"]),
        "page": random.choice(["/a", "/b", "/c", "/d", None]),
        "amount": random.choice([1, 2, 3, 10, None]),
        "price": round(random.random() * 100, 2),
        "ts": time(max(n * 450 + random.randrange(-2000, 2000), 0)),
    }


def play(n):
    return {
        "uid": random.choice(["u1", "u2", "u3", "u6"]),
        "song": random.choice(["s1", "s2", "s3"]),
        "ts": time(n * 1200 + random.randrange(1000)),
    }


write("ev.json", map(event, range(60)))
write("clicks.json", map(click, range(400)))
write("plays.json", map(play, range(150)))
