"""How good the models are on human-coded test rows, and how certain that is."""
