"""Logs, metrics and traces of this process. `bg_ingest.wiring` passes their observers to the use cases.

Labels have few values: no user, no connection, no text from outside.
"""
