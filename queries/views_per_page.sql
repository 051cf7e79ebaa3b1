-- Views per page in windows of 10 seconds.
--
-- In:  topic `clicks`, one JSON object per click, such as
--      {"timestamp":"2022-01-01T12:22:25","userid":"user_17","page":"/product12","action":"view"}
--      Clicks may be up to 5 seconds out of order.
-- Out: one row per window and page with the number of views, once the window is final.
-- Run: windrow run queries/views_per_page.sql --set BOOTSTRAP=localhost:9092
--      Add --until-end to stop at the end of the topic.

CREATE TABLE clicks (
  `timestamp` TIMESTAMP(3),
  userid STRING,
  page STRING,
  action STRING,
  WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'clicks',
  'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'json.ignore-parse-errors' = 'true'
);

SELECT window_start, window_end, page, COUNT(*) AS `views`
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(`timestamp`), INTERVAL '10' SECOND))
WHERE action = 'view'
GROUP BY window_start, window_end, page;
