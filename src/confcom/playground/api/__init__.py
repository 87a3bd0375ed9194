"""The playground node's interface: its control socket, the objects and states that it shows, and their errors.

Owns the control socket. It knows neither manifests nor containers.
"""
