"""Codes of WebSocket CLOSE frames (RFC 6455, 7.4.1)."""

NORMAL = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NO_CODE = 1005  # never sent: the CLOSE frame had no code
ABNORMAL = 1006  # never sent: the connection ended without a CLOSE frame
INVALID_TEXT = 1007
POLICY = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011
