CREATE TABLE ev (id INT, k STRING, s STRING, i INT, b BIGINT, d DOUBLE, `dec` DECIMAL(10, 2), t BOOLEAN, dt DATE, tm TIME,
  ts TIMESTAMP(3), arr ARRAY<INT>, m MAP<STRING, INT>, r ROW<x INT, y STRING>,
  WATERMARK FOR ts AS ts - INTERVAL '99' DAY)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/ev.json', 'format' = 'json');
CREATE TABLE clicks (uid STRING, page STRING, amount INT, price DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/clicks.json', 'format' = 'json');
CREATE TABLE plays (uid STRING, song STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${DATA}/plays.json', 'format' = 'json');
