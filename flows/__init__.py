"""The stages in their order as Prefect flows, and the command line that starts them."""

import logging

# Prefect passes on the loggers that PREFECT_LOGGING_EXTRA_LOGGERS names, but sets no level for
# them: Python's default, WARNING, would hide the lines that say what was done.
logging.getLogger("cxr").setLevel(logging.INFO)
