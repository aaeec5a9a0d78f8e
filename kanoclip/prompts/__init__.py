"""Prompts, written by people or learned."""
