"""Admission: answers API servers that ask whether an object may become what somebody wants it to be.

Law of this package: it gathers the world, asks `chain.review`, and answers; it changes nothing but its own Secret and its own registration,
so that a dry run is a run. While it does not know the world it says so, and the API server does as the failure policy says.
"""
