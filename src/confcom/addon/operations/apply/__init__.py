"""Applies the chart by helm: what all changes of the add-on share, from the preflight to the dry run."""
