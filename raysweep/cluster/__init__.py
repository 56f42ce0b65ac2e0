"""The only room that imports Ray: it carries plain functions to where they run."""
