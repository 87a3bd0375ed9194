"""The AESM protocol: framing, messages, checks of requests, error codes, and the sessions of client and server.

Pure: bytes in, bytes and decisions out. The quote helper and the client own the sockets.
"""

from confcom.extras import require

require("google.protobuf")
