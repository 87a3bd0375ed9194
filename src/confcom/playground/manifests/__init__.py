"""Manifests of Jobs and Pods: they are read and checked with the API server's rules and messages.

`v1` says which fields are supported and what must hold of them; `decoding` applies it. Pure.
"""
