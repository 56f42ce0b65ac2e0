"""CSV to documents: quarantine, splits, leak checks, the sample corpus."""
