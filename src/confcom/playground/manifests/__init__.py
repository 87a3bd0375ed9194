"""Manifests of Jobs and Pods: they are read and checked with the API server's rules and messages.

`v1` says which fields are supported, `value_rules` what must hold of their values; `decoding` applies both. Pure.
"""
