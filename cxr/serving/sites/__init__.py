"""A site: a model measured on a labelled sample of the place where it shall be used.

The model's bytes stay as they are. What a site has of its own is a threshold and a calibration,
kept in site.json with all that was measured.
"""
