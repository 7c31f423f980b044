"""The checks of `se-doctor`: the set-up of a server, then its conversations."""
