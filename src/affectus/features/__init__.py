"""Media and transcripts -> features."""
