"""CSV → documents: reading with quarantine, splits without leaks, and the synthetic sample corpus."""
