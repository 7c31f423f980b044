"""The commands, kept thin: they read options, wire the layers together and print."""
