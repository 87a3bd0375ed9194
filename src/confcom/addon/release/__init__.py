"""The Helm release of the add-on: its history, its manifests, and how the cluster's objects differ from them.

Pure: manifests and objects in, differences out. `cluster.installed_release` reads both.
"""
