"""Asks the device plugins for their inventories, by HTTP."""
