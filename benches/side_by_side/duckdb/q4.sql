COPY (
  SELECT time_bucket(INTERVAL '10 seconds', event_time) AS window_start,
    window_start + INTERVAL '10 seconds' AS window_end, model, count(*) AS down
  FROM read_json('${FILE}', format = 'newline_delimited', columns = {
    model: 'VARCHAR', deviceid: 'VARCHAR', interface: 'VARCHAR', interfacestatus: 'VARCHAR',
    cpuusage: 'VARCHAR', memoryusage: 'VARCHAR', event_time: 'TIMESTAMP'})
  WHERE interfacestatus = 'down'
  GROUP BY window_start, model
) TO '${OUT}/results.json' (FORMAT json);
