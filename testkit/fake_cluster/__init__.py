"""A cluster with kubectl and helm in front of it, in memory: what it is told to be, and what changes of it do."""
