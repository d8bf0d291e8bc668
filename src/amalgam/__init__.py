"""Amalgam: mix human-coded and LLM-written responses, train a teacher, distil a student."""
