"""What the controller knows of nodes, Pods and plugins, and what it decides from that. No I/O."""
