"""A relying party's room: quote, collateral and policy in, verdict out. No network; a simulated quote never passes by accident."""
