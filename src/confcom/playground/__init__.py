"""One node without Kubernetes: a kubelet stand-in with the real one's rules, and a runner for Job and Pod manifests.

The daemons that it needs run as processes of their own; this package imports none of them.
"""
