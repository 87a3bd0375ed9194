"""Manifests of Jobs and Pods: they are read, checked and expanded with the API server's rules and messages.

Pure, except for the folder of examples.
"""
