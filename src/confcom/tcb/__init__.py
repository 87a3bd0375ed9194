"""Which machines are UpToDate, by which set of collateral, and what raises each SVN that is short."""
