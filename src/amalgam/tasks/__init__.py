"""Tasks: what is coded, with which rubric, and where its human-coded rows come from."""
