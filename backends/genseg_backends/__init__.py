"""The backends that ship with genseg, registered through the same hook as anyone's plug-in."""

from genseg.hookspecs import Register, hookimpl


@hookimpl
def register_backends(register: Register) -> None:
    """Name the factories; nothing heavy is imported until one is used."""
    register("tiny", "genseg_backends.tiny:tiny")
    register("sd14", "genseg_backends.stable_diffusion:sd14")
    register("sd15", "genseg_backends.stable_diffusion:sd15")
    register("sd20", "genseg_backends.stable_diffusion:sd20")
    register("sd21", "genseg_backends.stable_diffusion:sd21")
    register("sd-turbo", "genseg_backends.stable_diffusion:sd_turbo")
    register("lcm", "genseg_backends.stable_diffusion:lcm")
