"""What this service counts and times, for Prometheus: decorators around ports, joined in wiring.

Nothing further inside knows of it. Labels have few values: no user, no connection, no text from outside.
"""
