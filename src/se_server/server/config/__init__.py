"""The options of a server, and the user's APP."""
