"""From a rubric and a few human rows to a pool of synthetic rows, and from there to a mix."""
