"""Compiled loops over pixels, runs and bytes. They hold no lock of the interpreter while they run,
so that threads add up. numba is loaded with the first that is used.
"""
