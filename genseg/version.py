"""The version of genseg, apart from its public names, so that any module can import it."""

__version__ = "0.1.0"
