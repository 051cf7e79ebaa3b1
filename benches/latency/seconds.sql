-- In: one record per event with its time `ts` and a key. Out: a row per key for each second.
CREATE TABLE events (
  ts TIMESTAMP(3),
  k STRING,
  WATERMARK FOR ts AS ts
) WITH (
  'connector' = 'kafka',
  'topic' = 'latency',
  'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'latest-offset',
  'format' = 'json'
);

SELECT window_end, k, COUNT(*) AS events
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND))
GROUP BY window_start, window_end, k;
