"""Commands for this machine: the daemons, the demo, the playground, and the hardware report."""
