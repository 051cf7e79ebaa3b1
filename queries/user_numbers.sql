-- The sum of each user's numbers per minute; the event time is a Unix time in seconds.
--
-- In:  topic `user_numbers`, one JSON object per number, such as
--      {"user":"user_2","number":495,"timestampInEpoch":1669852800}
--      Numbers may be up to 5 seconds out of order.
-- Out: one row per minute and user.
-- Run: windrow run queries/user_numbers.sql --set BOOTSTRAP=localhost:9092

CREATE TABLE user_numbers (
  `user` STRING,
  `number` INT,
  timestampInEpoch BIGINT,
  ts AS TO_TIMESTAMP_LTZ(timestampInEpoch, 0),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'user_numbers',
  'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
);

SELECT window_start, window_end, `user`, SUM(`number`) AS total
FROM TABLE(TUMBLE(TABLE user_numbers, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, `user`;
