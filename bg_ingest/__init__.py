"""Connects continuous glucose monitors to dashboards and ML pipelines."""

__version__ = "0.1.0"
