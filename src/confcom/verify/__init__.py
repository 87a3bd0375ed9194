"""A relying party's room: quote, collateral and policy in, verdict out. No network, and no simulated quote by accident."""
