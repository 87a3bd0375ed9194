"""How fast the device plugin is, beside a minimal one in Go."""
