-- Rides become confirmed rides: the location is parsed, the customer looked up in a file. And of
-- the confirmed rides, how many there were in each 5 minutes.
--
-- In:  topic `rides`, one JSON object per ride, such as
--      {"id":1,"customer_id":6,"location":"Lat: 52.50, Long: 13.20"}
--      A ride has no time of its own: it happened at the timestamp of its Kafka record.
--      The file `customers.csv`: customer_id,name,tier.
-- Out: topic `confirmed_rides`, one JSON object per ride of a known customer, with the ride's
--      timestamp; and, as the result of the last statement, the number of rides per 5 minutes.
-- Note: with several partitions of `rides` the confirmed ones come in the order in which those were read. Where there
--      is much to catch up with, that is not the order of time: then give the WATERMARK as much delay as partitions
--      are apart, or later rides are late.
-- Run: windrow run queries/confirmed_rides.sql --set BOOTSTRAP=localhost:9092 --set DATASETS=datasets
--      The second statement reads what the first one writes, so it goes on for as long as that
--      does; with --until-end it ends at what was in `confirmed_rides` when the run began.

CREATE TABLE rides (
  id INT,
  customer_id INT,
  location STRING,
  requested_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = 'rides',
  'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
);

CREATE TABLE customers (
  customer_id INT,
  name STRING,
  tier STRING
) WITH (
  'connector' = 'filesystem',
  'path' = '${DATASETS}/customers.csv',
  'format' = 'csv'
);

CREATE TABLE confirmed_rides (
  id INT,
  customer_id INT,
  customer STRING,
  tier STRING,
  latitude DOUBLE,
  longitude DOUBLE,
  requested_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  WATERMARK FOR requested_at AS requested_at - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'confirmed_rides',
  'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
);

INSERT INTO confirmed_rides
SELECT
  rides.id,
  rides.customer_id,
  customers.name,
  customers.tier,
  -- 'Lat: 52.50, Long: 13.20': the first half by splitting, the second by a pattern.
  CAST(TRIM(SPLIT_INDEX(SPLIT_INDEX(rides.location, ',', 0), ':', 1)) AS DOUBLE),
  CAST(REGEXP_EXTRACT(rides.location, 'Long: (-?[0-9.]+)', 1) AS DOUBLE),
  rides.requested_at
FROM rides
JOIN customers ON rides.customer_id = customers.customer_id;

SELECT window_start, window_end, COUNT(*) AS rides
FROM TABLE(TUMBLE(TABLE confirmed_rides, DESCRIPTOR(requested_at), INTERVAL '5' MINUTE))
GROUP BY window_start, window_end;
