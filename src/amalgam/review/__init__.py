"""Review what a change did: compare two revisions row by row."""
