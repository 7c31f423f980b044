"""The cases and checks of `se-doctor`: the set-up of a server, and its conversations case by case."""
