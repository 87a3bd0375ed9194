"""The AESM protocol: framing, messages, checks of requests, error codes, and the sessions of client and server.

These modules only parse, check and build bytes. The quote helper and the client own the sockets.
"""

from confcom.extras import require

require("google.protobuf")
