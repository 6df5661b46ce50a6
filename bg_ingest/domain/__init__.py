"""What is true: values and pure functions. Nothing here awaits, and nothing knows the time or the network."""
