"""The simulated root of a cluster: the Job that makes it once, its Secret, and the record of its fingerprint.

`job` runs in the cluster and reaches the API server by its ServiceAccount (`retrying_api_client`). `secret` and
`record` are pure codecs, which the add-on's commands use too.
"""
