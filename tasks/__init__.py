"""Thin Prefect tasks: each calls one library function and returns a record."""
