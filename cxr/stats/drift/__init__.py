"""Drift: sequential tests of binned measurements, and the performance that scores let expect."""
