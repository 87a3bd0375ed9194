"""The kubelet's part: the device manager, plugins and their registration, admission of pods, and their life.

Speaks gRPC with device plugins. The rules are those of the real kubelet; one contract suite holds both to them.
"""
