"""`cxr verify`: compute every metric of a finished run again, and compare every file with it."""
