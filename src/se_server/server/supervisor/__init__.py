"""The process that forks, watches and replaces workers."""
