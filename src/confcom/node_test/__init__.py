"""`confcom test`: one Pod on each tested node gets a quote, and this process verifies the quote."""
