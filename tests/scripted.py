"""Answers of measuring processes as a test writes them, for the suites in bench/."""


class Scripted:
    """In place of processes: each does its part of a script, and notes its orders."""

    def __init__(self, *parts):
        self.parts, self.orders = list(parts), []

    def __call__(self, orders, patience):
        self.orders.append(orders)
        for message in self.parts.pop(0):
            if isinstance(message, Exception):
                raise message
            yield message
