"""Manifests of Jobs and Pods: they are read and checked with the API server's rules and messages. Pure."""
