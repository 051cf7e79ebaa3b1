-- Device models whose CPU load was above 75 % on average over the last minute, every 10 seconds.
--
-- In:  topic `telemetry`, one JSON object per report of a device; the numbers are text:
--      {"model":"SW-48","deviceid":"dvc1114","interface":"eth3.3","interfacestatus":"connected",
--       "cpuusage":"93","memoryusage":"1423","event_time":"2023-01-02 00:00:00"}
--      Reports may be up to 5 seconds out of order.
-- Out: one row per window of 60 seconds (a new one begins every 10) and model above the threshold.
-- Run: windrow run queries/model_cpu_alerts.sql --set BOOTSTRAP=localhost:9092

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
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
);

SELECT
  window_start,
  window_end,
  model,
  AVG(CAST(cpuusage AS DOUBLE)) AS avg_cpu,
  MAX(CAST(cpuusage AS INT)) AS max_cpu
FROM TABLE(HOP(TABLE telemetry, DESCRIPTOR(event_time), INTERVAL '10' SECOND, INTERVAL '60' SECOND))
GROUP BY window_start, window_end, model
HAVING AVG(CAST(cpuusage AS DOUBLE)) > 75;
