"""Module sites: what a backend declares of them, how they are named, and how they are read and edited.

`read`, `offset` and `as_map` are what backends need: they go by the taps and points that a backend declares. The public
names stand in ``__init__.pyi``; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
