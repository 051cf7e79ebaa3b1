COPY (
  SELECT time_bucket(INTERVAL '10 seconds', "timestamp") AS window_start,
    window_start + INTERVAL '10 seconds' AS window_end, page, count(*) AS views
  FROM read_json('${FILE}', format = 'newline_delimited', columns = {
    "timestamp": 'TIMESTAMP', userid: 'VARCHAR', page: 'VARCHAR', action: 'VARCHAR'})
  WHERE action = 'view'
  GROUP BY window_start, page
) TO '${OUT}/results.json' (FORMAT json);
