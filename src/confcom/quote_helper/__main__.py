"""python -m confcom.quote_helper."""

import gc
import os
import sys

if __name__ == "__main__":
    # Importing makes 0.3 MB of garbage, and looking for it takes a twentieth of the start. What was imported stays
    # until the end: left out of later collections, it does not stop the event loop for the 10 ms that it takes.
    gc.disable()
    from confcom.quote_helper.main import main

    gc.freeze()
    gc.enable()
    sys.exit(main(sys.argv[1:], prog="python -m confcom.quote_helper", environ=os.environ, stderr=sys.stderr))
