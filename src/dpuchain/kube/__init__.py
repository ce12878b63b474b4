"""The one door to API servers.

Law of this package: nothing else imports a Kubernetes library or speaks HTTP to an API server; every failure leaves it as a
`KubeError` that says whether the thing is absent, could not be reached, or is refused; reads are served from caches that a watch
feeds, and a cache that could not read is never an empty one.
"""
