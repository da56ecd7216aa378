"""From the bytes of a source file to the stored image: ingestion does it, and every registered student repeats it."""
