-- Q4: reports of interfaces that are down, per model, 10 s tumbling.
CREATE TABLE telemetry (
  model STRING,
  deviceid STRING,
  interface STRING,
  interfacestatus STRING,
  cpuusage STRING,
  memoryusage STRING,
  event_time TIMESTAMP(3),
  WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'telemetry',
  'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

CREATE TABLE results (
  window_start TIMESTAMP(3),
  window_end TIMESTAMP(3),
  model STRING,
  down BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = '${OUT}',
  'format' = 'json'
);

INSERT INTO results
SELECT window_start, window_end, model, COUNT(*)
FROM TABLE(TUMBLE(TABLE telemetry, DESCRIPTOR(event_time), INTERVAL '10' SECOND))
WHERE interfacestatus = 'down'
GROUP BY window_start, window_end, model;
