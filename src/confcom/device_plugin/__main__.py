"""`python -m confcom.device_plugin`."""

import os
import sys

from confcom.device_plugin.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], prog="python -m confcom.device_plugin", environ=os.environ, stderr=sys.stderr))
