"""The report: one HTML page with the verdict, the numbers behind it and what exactly was run."""
