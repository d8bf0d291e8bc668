"""What a change did: two revisions against each other, row by row."""
