"""The columns of the tables of preprocessing, clean_metadata.csv and rejects.csv among them."""

# Raise it when a measured column changes its meaning: every file is then inspected again.
INSPECTION_VERSION = 4
ROW_COLUMNS = [
    "image", "label", "label_name", "split", "source_split", "patient_id", "etiology",
    "md5", "pixel_sha256", "phash", "width", "height", "mode", "bytes", "mean", "std",
    "format", "icc", "exif", "quantisation", "patient_group", "bit_depth", "inverted",
]  # fmt: skip
# What is known of an image beside its pixels, from DICOM tags or a table of labels. The manifest has
# those of them that some image has. Age is in years, spacing in mm; patients, studies, series,
# instances, institutions and stations are pseudonyms.
ATTRIBUTE_COLUMNS = [
    "age", "sex", "view", "year", "modality", "manufacturer", "device_model", "detector", "station",
    "institution", "pixel_spacing", "transfer_syntax", "bits_stored", "photometric", "window",
    "burned_in", "study", "series", "instance",
]  # fmt: skip
# What a reader said of an image's label, where corrections were handed in: the label as the data set
# has it, what the reader says (NORMAL, PNEUMONIA or exclude), who and when.
CORRECTION_COLUMNS = ["given_label", "corrected_label", "label_reader", "label_date"]
# What inspection finds in the tags of DICOM files: these, and the pseudonym of the patient.
TAG_COLUMNS = ["dicom_patient", *ATTRIBUTE_COLUMNS]
REJECT_COLUMNS = ["image", "reason", "detail"]
PAIR_COLUMNS = ["image_a", "image_b", "variant", "distance", "correlation"]
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
VERSIONED = ["image", "size", "version"]  # an inspected file is recognised by these
# What a table of labels says of an image, empty where there is none; it is right where tags differ.
TABLE_COLUMNS = ["table_patient", "table_age", "table_sex", "table_view"]
_FOUND_COLUMNS = ["image", "label", "source_split", "etiology", "group", "size", "version"]
LISTED_COLUMNS = [*_FOUND_COLUMNS, *TABLE_COLUMNS]
# Where in the inspected shards an image's row is: the name of the shard, and the row from 0, "shard:row".
PLACED_COLUMNS = [*LISTED_COLUMNS, "place"]
INSPECTED_COLUMNS = [
    *LISTED_COLUMNS,
    *MEASURED_COLUMNS,
    *TAG_COLUMNS,
    "reason",
    "detail",
    "thumbnail",
]
