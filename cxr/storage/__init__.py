"""A local folder or an S3 prefix behind one protocol; caches on this machine; work folders."""
