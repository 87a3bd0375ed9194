"""Which machines a TCB recovery takes out, which of their SVNs are short, and what raises them."""
