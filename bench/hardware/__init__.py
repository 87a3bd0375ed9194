"""What the hardware providers add to what makes quotes: the relay to aesmd, and the child with Intel's libraries."""
