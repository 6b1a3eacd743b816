"""The past, again: a log as one file, and the fold that compares it with what was published.

Pure of Faust and of the worker: it reads topics as any follower does and never writes to one.
"""
