"""Puts the events of a stream on the tape of its recorded conversation. It has names in C only."""
