"""What the synthetic rows are like, beside the human ones."""
