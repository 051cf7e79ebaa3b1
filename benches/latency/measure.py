"""Latency of windrow at a steady rate: from the broker's answer to the record that closes a
window, to the window's first row on standard output. Then the CPU time of the idle query.

    measure.py WINDROW BOOTSTRAP SECONDS RATE
"""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

from confluent_kafka import Producer

KEYS = 20
IDLE_SECONDS = 10


def utc(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_results(lines, arrived):
    for line in lines:
        now = time.time()
        arrived.setdefault(json.loads(line)["window_end"][:19], now)


def produce(bootstrap, seconds, rate):
    """Returns, per second, when the broker had acknowledged its first record."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
    acknowledged, second, sent = {}, None, 0
    start = time.time()
    while (now := time.time()) < start + seconds:
        while sent < (now - start) * rate:
            at = time.time()
            record = json.dumps({"ts": utc(at), "k": f"k{sent % KEYS}"})
            report = None
            if int(at) != second:
                second = int(at)
                report = lambda _error, _message, s=second: acknowledged.setdefault(s, time.time())
            producer.produce("latency", record, partition=0, on_delivery=report)
            sent += 1
        # Waits for reports: the pace of the loop.
        producer.poll(0.001)
    producer.flush()
    return acknowledged


def main():
    windrow, bootstrap, seconds, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    command = [windrow, "run", "seconds.sql", "--set", f"BOOTSTRAP={bootstrap}", "--format", "json"]
    query = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    arrived = {}
    reader = threading.Thread(target=read_results, args=(query.stdout, arrived), daemon=True)
    reader.start()
    acknowledged = produce(bootstrap, seconds, rate)
    before = cpu_seconds(query.pid)
    time.sleep(IDLE_SECONDS)  # what is measured is a stretch of time
    idle = (cpu_seconds(query.pid) - before) / IDLE_SECONDS
    query.terminate()
    query.wait()
    # The first windows are left out: the query may have started in the middle of them.
    latencies = sorted(
        (arrived[utc(second)[:19]] - at) * 1000
        for second, at in sorted(acknowledged.items())[3:]
        if utc(second)[:19] in arrived
    )
    if len(latencies) < seconds / 2:
        sys.exit(f"only {len(latencies)} windows in {seconds} s")
    at = lambda share: latencies[min(int(len(latencies) * share), len(latencies) - 1)]
    print(f"{len(latencies)} windows at {rate:,} rows/s: median {at(0.5):.1f} ms, "
          f"99th percentile {at(0.99):.1f} ms, largest {latencies[-1]:.1f} ms; idle CPU {idle:.2%}")


main()
