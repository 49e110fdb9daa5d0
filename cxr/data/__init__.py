"""From files to the manifest: survey, decoding, inspection, duplicates, patients, splits, the leakage gate."""
