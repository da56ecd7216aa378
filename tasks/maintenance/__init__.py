"""Maintenance of a store: verify, repair, garbage collection and inspection."""
