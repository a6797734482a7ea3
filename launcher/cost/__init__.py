"""What a job costs: prices, the sum of them, and the limit that is made of it."""
