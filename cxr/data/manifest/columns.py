"""The columns of clean_metadata.csv and rejects.csv."""

INSPECTION_VERSION = (
    3  # raise it when a measured column changes meaning: everything is then read anew
)
ROW_COLUMNS = [
    "image", "label", "label_name", "split", "source_split", "patient_id", "etiology", "md5", "pixel_sha256",
    "phash", "width", "height", "mode", "bytes", "mean", "std", "format", "icc", "exif",
    "quantisation", "patient_group", "bit_depth", "inverted",
]  # fmt: skip
REJECT_COLUMNS = ["image", "reason", "detail"]
CONTAINER_COLUMNS = ["format", "icc", "exif", "quantisation"]
MEASURED_COLUMNS = [
    "md5",
    "pixel_sha256",
    "phash",
    "width",
    "height",
    "mode",
    "bytes",
    "mean",
    "std",
    "bit_depth",
    *CONTAINER_COLUMNS,
]
VERSIONED = ["image", "size", "version"]  # by which an inspected file is known again
LISTED_COLUMNS = ["image", "label", "source_split", "etiology", "group", "size", "version"]
INSPECTED_COLUMNS = [*LISTED_COLUMNS, *MEASURED_COLUMNS, "reason", "detail", "thumbnail"]
