"""The rules of the product, each in one place.

Law of this package: pure functions over the structs of `api`. What an operator wrote goes forward by `project`, `expand` and `resolve`;
what was seen comes back by `status`. No I/O, no clock, no chance, no exception for what a user may write: a rule that is broken is a value
that says so.
"""
