COPY (
  SELECT time_bucket(INTERVAL '60 seconds', "timestamp") AS window_start,
    window_start + INTERVAL '60 seconds' AS window_end,
    row_number() OVER (PARTITION BY window_start ORDER BY count(*) DESC, song_id) AS place,
    song_id, song_name, count(*) AS plays
  FROM read_json('${FILE}', format = 'newline_delimited', columns = {
    user_id: 'BIGINT', artist: 'VARCHAR', song_id: 'BIGINT', song_name: 'VARCHAR', event_type: 'VARCHAR',
    "timestamp": 'TIMESTAMP'})
  GROUP BY window_start, song_id, song_name
  QUALIFY place <= 10
) TO '${OUT}/results.json' (FORMAT json);
