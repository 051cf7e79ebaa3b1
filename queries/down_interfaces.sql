-- Reports of interfaces that are down, per device model, in windows of 10 seconds.
--
-- In:  topic `telemetry`, one JSON object per report of a device, such as
--      {"model":"SW-48","deviceid":"dvc1114","interface":"eth3.3","interfacestatus":"down",
--       "cpuusage":"93","memoryusage":"1423","event_time":"2023-01-02 00:00:00"}
--      Reports may be up to 5 seconds out of order.
-- Out: one row per window and model that had any.
-- Run: windrow run queries/down_interfaces.sql --set BOOTSTRAP=localhost:9092

CREATE TABLE telemetry (
  model STRING,
  deviceid STRING,
  interface STRING,
  interfacestatus STRING,
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

SELECT window_start, window_end, model, COUNT(*) AS down
FROM TABLE(TUMBLE(TABLE telemetry, DESCRIPTOR(event_time), INTERVAL '10' SECOND))
WHERE interfacestatus = 'down'
GROUP BY window_start, window_end, model;
