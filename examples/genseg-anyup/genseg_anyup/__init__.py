"""A genseg upsampler over AnyUp, which was trained for features of any model."""

from genseg.hookspecs import Register, hookimpl


@hookimpl
def register_upsamplers(register: Register) -> None:
    """Name the factory; torch is imported when it is used."""
    register("anyup", "genseg_anyup.upsampler:anyup")
