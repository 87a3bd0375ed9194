"""`python -m confcom`: the same as the `confcom` command, for where no script was installed."""

from confcom.cli.main import main

main()
