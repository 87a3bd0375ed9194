"""Well-behaved clients beside misbehaving ones, through three updates of the quote helper: nothing may fail."""
