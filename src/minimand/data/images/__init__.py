"""Images from the hub, from Parquet files and from folders, through the library `datasets` (extra `data`)."""
