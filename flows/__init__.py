"""The order of the calls, and the command line that starts them."""

import logging

# Prefect hands on what the loggers of PREFECT_LOGGING_EXTRA_LOGGERS let through, but sets no level: WARNING, left alone.
logging.getLogger("cxr").setLevel(logging.INFO)
