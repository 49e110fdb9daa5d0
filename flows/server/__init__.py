"""The embedded Prefect server: started, watched and ended with the command that needs it."""
