"""What becomes of each listed file: used as what, or rejected why."""
