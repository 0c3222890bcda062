"""The health address: do Redis, the databases and the deployment's id serve the active watchers?

Loaded in the API server only, at the first request to the page or to this address.
"""
