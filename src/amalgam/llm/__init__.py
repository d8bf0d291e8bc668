"""Asking a language model: what is asked, who answers, and the journal that keeps every answer."""
