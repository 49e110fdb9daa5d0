"""An image archive (PACS) that speaks DICOMweb, as a storage that is read and never written."""
