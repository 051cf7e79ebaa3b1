-- Q3: CPU load per model, 60 s sliding by 10 s; the load is text.
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
  avg_cpu DOUBLE,
  max_cpu INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${OUT}',
  'format' = 'json'
);

INSERT INTO results
SELECT window_start, window_end, model, AVG(CAST(cpuusage AS DOUBLE)), MAX(CAST(cpuusage AS INT))
FROM TABLE(HOP(TABLE telemetry, DESCRIPTOR(event_time), INTERVAL '10' SECOND, INTERVAL '60' SECOND))
GROUP BY window_start, window_end, model;
