"""What makes quotes, behind one interface; the quote helper knows nothing else."""
