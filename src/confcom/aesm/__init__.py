"""The AESM protocol: framing, messages, checks of requests, error codes, and the sessions of client and server.

No I/O: these modules turn bytes into bytes and decisions. The quote helper and the client own the sockets.
"""

from confcom.extras import require

require("google.protobuf")
