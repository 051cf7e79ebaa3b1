"""The five queries as a loop over a Kafka consumer: count into dictionaries, write each window when
the watermark of every partition has reached its end, stop at the end of the topic.

loop.py QUERY BOOTSTRAP OUT
"""

import os
import sys
from datetime import datetime, timezone

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

DELAY = 5  # seconds that a row may come late


def seconds(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp())


class Q1:
    topic, time, size = "clicks", "timestamp", 10

    def add(self, windows, time, row):
        if row["action"] == "view":
            views = windows.setdefault(time - time % 10, {})
            page = row["page"]
            views[page] = views.get(page, 0) + 1

    def results(self, views):
        for page, n in views.items():
            yield {"page": page, "views": n}


class Q2:
    topic, time, size = "plays", "timestamp", 60

    def add(self, windows, time, row):
        plays = windows.setdefault(time - time % 60, {})
        song = row["song_id"], row["song_name"]
        plays[song] = plays.get(song, 0) + 1

    def results(self, plays):
        top = sorted(plays.items(), key=lambda entry: (-entry[1], entry[0]))[:10]
        for place, ((song_id, song_name), n) in enumerate(top, 1):
            yield {"place": place, "song_id": song_id, "song_name": song_name, "plays": n}


class Q3:
    topic, time, size = "telemetry", "event_time", 60

    def add(self, windows, time, row):
        model, cpu = row["model"], int(row["cpuusage"])
        last = time - time % 10
        for start in range(last - 50, last + 1, 10):
            models = windows.setdefault(start, {})
            entry = models.get(model)
            if entry is None:
                models[model] = [1, cpu, cpu]
            else:
                entry[0] += 1
                entry[1] += cpu
                entry[2] = max(entry[2], cpu)

    def results(self, models):
        for model, (n, total, most) in models.items():
            yield {"model": model, "avg_cpu": total / n, "max_cpu": most}


class Q4:
    topic, time, size = "telemetry", "event_time", 10

    def add(self, windows, time, row):
        if row["interfacestatus"] == "down":
            down = windows.setdefault(time - time % 10, {})
            model = row["model"]
            down[model] = down.get(model, 0) + 1

    def results(self, down):
        for model, n in down.items():
            yield {"model": model, "down": n}


class Q5:
    topic, time, size = "telemetry", "event_time", 10

    def add(self, windows, time, row):
        devices = windows.setdefault(time - time % 10, {})
        device, cpu, memory = row["deviceid"], int(row["cpuusage"]), int(row["memoryusage"])
        entry = devices.get(device)
        if entry is None:
            devices[device] = [1, cpu, memory]
        else:
            entry[0] += 1
            entry[1] += cpu
            entry[2] = max(entry[2], memory)

    def results(self, devices):
        for device, (n, cpu, memory) in devices.items():
            yield {"deviceid": device, "reports": n, "avg_cpu": cpu / n, "max_memory": memory}


def main():
    name, bootstrap, out = sys.argv[1:]
    query = {"q1": Q1, "q2": Q2, "q3": Q3, "q4": Q4, "q5": Q5}[name]()
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "loop", "enable.partition.eof": True})
    partitions = consumer.list_topics(query.topic).topics[query.topic].partitions
    consumer.assign([TopicPartition(query.topic, p, OFFSET_BEGINNING) for p in partitions])
    os.makedirs(out)
    windows = {}
    latest = dict.fromkeys(partitions, 0)  # the newest time in each partition that has not ended

    with open(os.path.join(out, "results.json"), "wb") as file:

        def write(start):
            for result in query.results(windows.pop(start)):
                bounds = {
                    "window_start": datetime.fromtimestamp(start, timezone.utc),
                    "window_end": datetime.fromtimestamp(start + query.size, timezone.utc),
                }
                file.write(orjson.dumps(bounds | result, option=orjson.OPT_APPEND_NEWLINE))

        while latest:
            for message in consumer.consume(10_000, 1.0):
                if message.error():
                    if message.error().code() != KafkaError._PARTITION_EOF:
                        sys.exit(str(message.error()))
                    del latest[message.partition()]
                    continue
                row = orjson.loads(message.value())
                time = seconds(row[query.time])
                partition = message.partition()
                if time > latest[partition]:
                    latest[partition] = time
                query.add(windows, time, row)
            watermark = min(latest.values(), default=float("inf")) - DELAY
            for start in sorted(w for w in windows if w + query.size <= watermark):
                write(start)
            file.flush()


main()
