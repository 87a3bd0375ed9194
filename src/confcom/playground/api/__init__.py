"""The playground node's interface: its control socket, the objects and states that it shows, and their errors."""
