"""`make release-check`: the files of a release, used as a stranger uses them."""
