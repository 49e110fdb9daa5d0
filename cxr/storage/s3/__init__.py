"""An S3 prefix as a storage."""
