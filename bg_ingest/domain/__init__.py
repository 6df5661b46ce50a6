"""Values and pure functions. Nothing here awaits or reads the time or the network."""
