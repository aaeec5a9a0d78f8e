"""Hand-written and learned prompts."""
