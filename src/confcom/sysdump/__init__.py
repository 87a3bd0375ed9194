"""A system dump: an archive with what a maintainer needs to know of a cluster's add-on, without secrets.

`redaction`, `selection` and `archive` are pure; `dump` reads the cluster and writes the file.
"""
