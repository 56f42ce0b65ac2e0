"""Reads the files of a corpus, in any of the supported formats, into columns of cells with the row of every record."""
