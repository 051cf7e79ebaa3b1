"""The five queries as Structured Streaming, each over what is in its topic now.

queries.py QUERY BOOTSTRAP OUT CONNECTOR_JARS PARALLELISM HEAP
"""

import sys

from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

CLICKS = "timestamp TIMESTAMP, userid STRING, page STRING, action STRING"
PLAYS = (
    "user_id BIGINT, artist STRING, song_id BIGINT, song_name STRING, event_type STRING, timestamp TIMESTAMP"
)
TELEMETRY = (
    "model STRING, deviceid STRING, interface STRING, interfacestatus STRING, "
    "cpuusage STRING, memoryusage STRING, event_time TIMESTAMP"
)

query, bootstrap, out, jars, parallelism, heap = sys.argv[1:]
spark = (
    SparkSession.builder.master(f"local[{parallelism}]")
    .config("spark.jars", jars)
    .config("spark.driver.memory", heap)
    .config("spark.sql.shuffle.partitions", parallelism)
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")


def rows(topic, schema, time):
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
        .select(F.from_json(F.col("value").cast("string"), schema).alias("row"))
        .select("row.*")
        .withWatermark(time, "5 seconds")
    )


def bounds(results):
    """The window as two columns, in front."""
    return results.select(
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        *[column for column in results.columns if column != "window"],
    )


def q1():
    clicks = rows("clicks", CLICKS, "timestamp").where("action = 'view'")
    return clicks.groupBy(F.window("timestamp", "10 seconds"), "page").agg(F.count("*").alias("views"))


def q2():
    plays = rows("plays", PLAYS, "timestamp")
    return plays.groupBy(F.window("timestamp", "60 seconds"), "song_id", "song_name").agg(
        F.count("*").alias("plays")
    )


def q3():
    telemetry = rows("telemetry", TELEMETRY, "event_time")
    return telemetry.groupBy(F.window("event_time", "60 seconds", "10 seconds"), "model").agg(
        F.avg(F.col("cpuusage").cast("double")).alias("avg_cpu"),
        F.max(F.col("cpuusage").cast("int")).alias("max_cpu"),
    )


def q4():
    telemetry = rows("telemetry", TELEMETRY, "event_time").where("interfacestatus = 'down'")
    return telemetry.groupBy(F.window("event_time", "10 seconds"), "model").agg(F.count("*").alias("down"))


def q5():
    telemetry = rows("telemetry", TELEMETRY, "event_time")
    return telemetry.groupBy(F.window("event_time", "10 seconds"), "deviceid").agg(
        F.count("*").alias("reports"),
        F.avg(F.col("cpuusage").cast("double")).alias("avg_cpu"),
        F.max(F.col("memoryusage").cast("int")).alias("max_memory"),
    )


def write_top_ten(counted, _batch):
    """A stream cannot rank; a batch can, and the rows of a closed window are all in one batch."""
    place = F.row_number().over(Window.partitionBy("window_start").orderBy(F.desc("plays"), "song_id"))
    counted.withColumn("place", place).where("place <= 10").write.mode("append").json(out)


results = bounds({"q1": q1, "q2": q2, "q3": q3, "q4": q4, "q5": q5}[query]())
writer = results.writeStream.outputMode("append").option("checkpointLocation", f"{out}.checkpoint")
if query == "q2":
    writer = writer.foreachBatch(write_top_ten)
else:
    writer = writer.format("json").option("path", out)
writer.trigger(availableNow=True).start().awaitTermination()
spark.stop()
