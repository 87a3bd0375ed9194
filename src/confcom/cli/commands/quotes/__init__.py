"""Commands that get, show and verify quotes, and the simulated platform that signs them."""
