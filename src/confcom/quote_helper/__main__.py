"""python -m confcom.quote_helper."""

import os
import sys

from confcom.quote_helper.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], prog="python -m confcom.quote_helper", environ=os.environ, stderr=sys.stderr))
