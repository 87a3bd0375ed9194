"""A system dump: an archive with what a maintainer needs to know of a cluster's add-on, without secrets."""
