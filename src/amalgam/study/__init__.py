"""The paper's experiments: a grid of settings, each trained and measured once, and what they show together."""
