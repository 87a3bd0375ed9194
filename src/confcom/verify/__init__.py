"""A relying party's room: quote, collateral, policy in, verdict out. No network; no simulated quote by accident."""
