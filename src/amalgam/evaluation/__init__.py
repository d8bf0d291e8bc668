"""How good the models are on human-coded test rows, and how sure that is."""
