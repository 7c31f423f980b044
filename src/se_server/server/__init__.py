"""Processes and the door: the only place that forks, handles signals and binds sockets."""
