"""Commands for this machine: the daemons, the demo and the hardware report."""
