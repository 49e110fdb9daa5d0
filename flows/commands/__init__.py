"""The command line `cxr`: its app, flags, commands and what they print."""
