"""The commands: they read options, connect the layers and print. The logic is elsewhere."""
