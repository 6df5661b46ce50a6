"""One file per command, loaded when it is used: see the table in ``bg_ingest/cli.py``."""
