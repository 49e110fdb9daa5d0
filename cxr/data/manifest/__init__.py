"""clean_metadata.csv: listing, inspection, contract, publication."""
