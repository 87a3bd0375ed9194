"""Every known client of AESM, replayed: what it sends, how, and what it checks; against a real helper process."""
