"""The steps of the stages as Prefect tasks: each calls the library, shows the result, returns a record."""
