"""The sections of the report, one a module: each takes the content and returns what its template shows, or None.

A section of which the run holds no data returns None and is left out. Its template has the module's name.
"""
