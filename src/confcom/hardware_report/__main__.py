"""Print the hardware report as JSON. The command line's libraries are not used, since daemons' images lack them."""

import argparse
import json
import os
import sys
from pathlib import Path

from confcom.errors import JSON_SCHEMA
from confcom.hardware_report.report import HOST, local_report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m confcom.hardware_report", description=__doc__)
    parser.add_argument("--host-root", type=Path, default=HOST, help="the node's root file system")
    report = local_report(os.environ, host_root=parser.parse_args().host_root)
    sys.stdout.write(json.dumps({"schema": JSON_SCHEMA, **report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
