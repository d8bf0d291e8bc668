"""Requests to a language model, the endpoints that answer them, and the journal that keeps every answer."""
