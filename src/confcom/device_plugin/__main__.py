"""`python -m confcom.device_plugin`."""

import sys

from confcom.device_plugin.main import main

sys.exit(main())
