"""Logs, metrics and traces of this process. Wiring joins their observers to the use cases.

Labels have few values: no user, no connection, no text from outside.
"""
