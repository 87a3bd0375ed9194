"""What the hardware providers add to what makes the quotes: the relay to aesmd, and the child with Intel's libraries."""
