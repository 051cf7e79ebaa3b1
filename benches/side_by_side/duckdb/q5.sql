COPY (
  SELECT time_bucket(INTERVAL '10 seconds', event_time) AS window_start,
    window_start + INTERVAL '10 seconds' AS window_end, deviceid, count(*) AS reports,
    avg(cpuusage::DOUBLE) AS avg_cpu, max(memoryusage::INT) AS max_memory
  FROM read_json('${FILE}', format = 'newline_delimited', columns = {
    model: 'VARCHAR', deviceid: 'VARCHAR', interface: 'VARCHAR', interfacestatus: 'VARCHAR',
    cpuusage: 'VARCHAR', memoryusage: 'VARCHAR', event_time: 'TIMESTAMP'})
  GROUP BY window_start, deviceid
) TO '${OUT}/results.json' (FORMAT json);
