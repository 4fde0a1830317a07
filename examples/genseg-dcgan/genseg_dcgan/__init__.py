"""A genseg backend over a DCGAN that was trained on faces."""

from genseg.hookspecs import Register, hookimpl


@hookimpl
def register_backends(register: Register) -> None:
    """Name the factory; torch is imported when it is used."""
    register("dcgan", "genseg_dcgan.backend:dcgan")
