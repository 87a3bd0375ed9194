"""A stand-in for Intel's aesmd that takes 2.5 ms for a quoting call, one call after the other, as aesmd does.

Usage: python -m bench.stand_in_aesmd SOCKET DIR
"""

import signal
import sys
from pathlib import Path

from confcom.quote_provider.simulated import SimulatedQuoteProvider
from testkit.stub_aesmd import StubAesmd

CALL_SECONDS = 0.0025
"""What Intel's takes for a quote (measured in simulation)."""

if __name__ == "__main__":
    stub = StubAesmd(Path(sys.argv[1]), SimulatedQuoteProvider.open(Path(sys.argv[2])))
    stub.seconds = CALL_SECONDS
    stub.start()
    signal.pause()
