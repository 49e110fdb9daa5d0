"""The order of the calls, and the command line that starts them."""
