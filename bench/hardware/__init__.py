"""What the relay to aesmd adds to what makes quotes."""
