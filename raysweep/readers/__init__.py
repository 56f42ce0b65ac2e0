"""The files of a corpus in whatever format they are → columns of cells, with the place of every record."""
