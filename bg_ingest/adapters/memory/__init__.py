"""The embedded broker: events stay in this process."""
