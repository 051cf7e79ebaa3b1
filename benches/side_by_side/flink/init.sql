-- Wait for the job's end.
SET 'table.dml-sync' = 'true';
SET 'parallelism.default' = '${PARALLELISM}';
