"""python -m confcom.quote_helper."""

import os
import sys

from confcom.extras import daemon_imports

if __name__ == "__main__":
    with daemon_imports("daemon"):
        from confcom.quote_helper.main import main

    sys.exit(main(sys.argv[1:], prog="python -m confcom.quote_helper", environ=os.environ, stderr=sys.stderr))
