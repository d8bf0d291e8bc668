"""The tables of the report, as text that a template only has to lay out."""
