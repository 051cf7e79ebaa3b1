-- Q5: per device, 10 s tumbling: many groups, numbers that are text.
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
  deviceid STRING,
  reports BIGINT,
  avg_cpu DOUBLE,
  max_memory INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${OUT}',
  'format' = 'json'
);

INSERT INTO results
SELECT window_start, window_end, deviceid, COUNT(*), AVG(CAST(cpuusage AS DOUBLE)), MAX(CAST(memoryusage AS INT))
FROM TABLE(TUMBLE(TABLE telemetry, DESCRIPTOR(event_time), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, deviceid;
