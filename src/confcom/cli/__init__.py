"""What a person types. Thin: each command parses, calls one room, and prints; imports happen when a command runs."""
