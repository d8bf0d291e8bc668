"""What an LLM says in its answer, without all that stands around it."""
