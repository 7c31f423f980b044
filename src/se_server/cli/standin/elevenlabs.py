"""The name of the published SDK in a process of multiprocessing, where it is not installed."""

from se_server.cli.aliases import stand_in

if __name__ == "elevenlabs":
    stand_in()
