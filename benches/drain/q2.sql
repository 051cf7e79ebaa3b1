-- Q2: the ten songs played most, 60 s tumbling.
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
  'format' = 'json'
);

CREATE TABLE results (
  window_start TIMESTAMP(3),
  window_end TIMESTAMP(3),
  place BIGINT,
  song_id BIGINT,
  song_name STRING,
  plays BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = '${OUT}',
  'format' = 'json'
);

INSERT INTO results
SELECT window_start, window_end, place, song_id, song_name, plays
FROM (
  SELECT *, ROW_NUMBER() OVER (
      PARTITION BY window_start, window_end
      ORDER BY plays DESC, song_id) AS place
  FROM (
    SELECT window_start, window_end, song_id, song_name, COUNT(*) AS plays
    FROM TABLE(TUMBLE(TABLE plays, DESCRIPTOR(`timestamp`), INTERVAL '60' SECOND))
    GROUP BY window_start, window_end, song_id, song_name
  ) AS counted
) AS ranked
WHERE place <= 10;
