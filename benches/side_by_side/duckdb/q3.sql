-- DuckDB has no sliding windows: a mean and a maximum for every 10 s, then six of them together.
COPY (
  WITH panes AS (
    SELECT time_bucket(INTERVAL '10 seconds', event_time) AS pane, model,
      sum(cpuusage::DOUBLE) AS cpu, count(cpuusage) AS reports, max(cpuusage::INT) AS max_cpu
    FROM read_json('${FILE}', format = 'newline_delimited', columns = {
    model: 'VARCHAR', deviceid: 'VARCHAR', interface: 'VARCHAR', interfacestatus: 'VARCHAR',
    cpuusage: 'VARCHAR', memoryusage: 'VARCHAR', event_time: 'TIMESTAMP'})
    GROUP BY pane, model
  )
  SELECT pane - INTERVAL '10 seconds' * back AS window_start, window_start + INTERVAL '60 seconds' AS window_end,
    model, sum(cpu) / sum(reports) AS avg_cpu, max(max_cpu) AS max_cpu
  FROM panes, range(6) AS panes_back(back)
  GROUP BY window_start, model
) TO '${OUT}/results.json' (FORMAT json);
