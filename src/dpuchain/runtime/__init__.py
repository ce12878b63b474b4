"""What every process is made of: clock, work queue, control loop, metrics, health and logs.

Law of this package: it knows how to run work, not what the work is. The one broad `except` of the project is in `controller`, where a
bug in the handling of one object must not stop the others.
"""
