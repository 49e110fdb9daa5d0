"""Labels from tables: how public collections and hospitals write them, and whose they are."""
