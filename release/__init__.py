"""`make release` writes a release's files; `make release-check` installs and checks them as a stranger does."""
