"""Labels that a reader has looked at again: the tables handed back, and what becomes of their rows."""
