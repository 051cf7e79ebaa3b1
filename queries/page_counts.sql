-- The most viewed pages since the beginning, as a PySpark user writes it:
--   clicks.where("action = 'view'").groupBy("page").count().orderBy(desc("count")), outputMode("complete")
--
-- In:  topic `clicks`, one JSON object per click, such as
--      {"timestamp":"2022-01-01T12:22:25","userid":"user_17","page":"/product12","action":"view"}
-- Out: all pages with their counts, the largest first, again at each trigger. There is no window,
--      hence no event time and no watermark: the groups are kept for ever.
-- Run: windrow run queries/page_counts.sql --set BOOTSTRAP=localhost:9092

SET 'output.mode' = 'complete';

CREATE TABLE clicks (
  page STRING,
  action STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'clicks',
  'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
);

SELECT page, COUNT(*) AS `count`
FROM clicks
WHERE action = 'view'
GROUP BY page
ORDER BY `count` DESC, page;
