from picows import WSFrame, WSListener, WSTransport
from typing_extensions import disjoint_base  # type checkers know it without the package

@disjoint_base
class Framer(WSListener):
    """Unmasks frames, one at a time, and hands each out when picows is done with it: no exception crosses picows."""
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame that picows has read."""
