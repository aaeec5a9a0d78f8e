"""Prompts: written by hand, or learned."""
