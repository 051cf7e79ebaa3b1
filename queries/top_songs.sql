-- The ten songs played most in each minute.
--
-- In:  topic `plays`, one JSON object per song that was played to its end, such as
--      {"user_id":4711,"artist":"Artist 2","song_id":12,"song_name":"Song 12","event_type":"song_completed","timestamp":"2022-11-03 07:22:13"}
--      Plays may be up to 5 seconds out of order.
-- Out: up to ten rows per minute, place 1 first; among equals the smaller song_id goes first.
-- Run: windrow run queries/top_songs.sql --set BOOTSTRAP=localhost:9092

CREATE TABLE plays (
  user_id BIGINT,
  artist STRING,
  song_id BIGINT,
  song_name STRING,
  event_type STRING,
  `timestamp` TIMESTAMP(3),
  WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'plays',
  'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.ignore-parse-errors' = 'true'
);

SELECT window_start, window_end, place, song_id, song_name, artist, plays
FROM (
  SELECT *, ROW_NUMBER() OVER (
      PARTITION BY window_start, window_end
      ORDER BY plays DESC, song_id) AS place
  FROM (
    SELECT window_start, window_end, song_id, song_name, artist, COUNT(*) AS plays
    FROM TABLE(TUMBLE(TABLE plays, DESCRIPTOR(`timestamp`), INTERVAL '60' SECOND))
    WHERE event_type = 'song_completed'
    GROUP BY window_start, window_end, song_id, song_name, artist
  ) AS counted
) AS ranked
WHERE place <= 10;
