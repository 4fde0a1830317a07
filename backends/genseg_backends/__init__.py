"""The backends, encoders and embedders that ship with genseg, registered through the same hooks as anyone's."""

from genseg.hookspecs import Register, hookimpl

FACTORIES = {
    "tiny": "tiny:tiny",
    "sd14": "stable_diffusion:sd14",
    "sd15": "stable_diffusion:sd15",
    "sd20": "stable_diffusion:sd20",
    "sd21": "stable_diffusion:sd21",
    "sd-turbo": "stable_diffusion:sd_turbo",
    "lcm": "stable_diffusion:lcm",
    "sdxl": "sdxl:sdxl",
    "sdxl-turbo": "sdxl:sdxl_turbo",
    "ssd-1b": "sdxl:ssd_1b",
    "vega": "sdxl:vega",
    "pixart-alpha": "pixart:pixart_alpha",
    "pixart-sigma": "pixart:pixart_sigma",
    "sd3": "sd3:sd3",
    "sd35-medium": "sd3:sd35_medium",
    "sd35-large": "sd3:sd35_large",
    "sana": "sana:sana",
    "hunyuan-dit": "hunyuan:hunyuan_dit",
    "dit": "dit:dit",
    "ddpm": "pixel:ddpm",
    "deepfloyd-if": "pixel:deepfloyd_if",
    "vitmae": "vitmae:vitmae",
    "flux-dev": "flux:flux_dev",
    "flux-schnell": "flux:flux_schnell",
    "flux2": "flux2:flux2",
    "qwen-image": "qwen_image:qwen_image",
    "z-image": "z_image:z_image",
    "lumina2": "lumina2:lumina2",
}

ENCODERS = ("dino", "dinov2", "dinov2-registers", "dinov3", "clip", "siglip", "siglip2", "mae")


@hookimpl
def register_backends(register: Register) -> None:
    """Name the factories; nothing heavy is imported until one is used."""
    for name, factory in FACTORIES.items():
        register(name, f"genseg_backends.{factory}")


@hookimpl
def register_encoders(register: Register) -> None:
    """Name the vision encoders' factories."""
    for name in ENCODERS:
        register(name, f"genseg_backends.encoders:{name.replace('-', '_')}")


@hookimpl
def register_embedders(register: Register) -> None:
    """Name the embedders' factories, likewise."""
    for name in ("maskclip", "tcl", "clippy"):
        register(name, f"genseg_backends.embedders.{name}:{name}")
