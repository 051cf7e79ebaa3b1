"""run.py QUERY FILE OUT: runs QUERY.sql over the rows in FILE."""

import os
import sys

import duckdb

query, file, out = sys.argv[1:]
os.makedirs(out)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{query}.sql")) as sql:
    duckdb.execute(sql.read().replace("${FILE}", file).replace("${OUT}", out))
