"""The backends, encoders and embedders that ship with genseg, registered through the same hooks as anyone's."""

from genseg.hookspecs import Register, hookimpl

FACTORIES = {
    "tiny": "tiny:tiny",
    "sd14": "families.stable_diffusion:sd14",
    "sd15": "families.stable_diffusion:sd15",
    "sd20": "families.stable_diffusion:sd20",
    "sd21": "families.stable_diffusion:sd21",
    "sd-turbo": "families.stable_diffusion:sd_turbo",
    "lcm": "families.stable_diffusion:lcm",
    "sdxl": "families.sdxl:sdxl",
    "sdxl-turbo": "families.sdxl:sdxl_turbo",
    "ssd-1b": "families.sdxl:ssd_1b",
    "vega": "families.sdxl:vega",
    "pixart-alpha": "families.pixart:pixart_alpha",
    "pixart-sigma": "families.pixart:pixart_sigma",
    "sd3": "families.sd3:sd3",
    "sd35-medium": "families.sd3:sd35_medium",
    "sd35-large": "families.sd3:sd35_large",
    "sana": "families.sana:sana",
    "hunyuan-dit": "families.hunyuan:hunyuan_dit",
    "dit": "families.dit:dit",
    "ddpm": "families.pixel:ddpm",
    "deepfloyd-if": "families.pixel:deepfloyd_if",
    "vitmae": "families.vitmae:vitmae",
    "flux-dev": "families.flux:flux_dev",
    "flux-schnell": "families.flux:flux_schnell",
    "flux2": "families.flux2:flux2",
    "qwen-image": "families.qwen_image:qwen_image",
    "z-image": "families.z_image:z_image",
    "lumina2": "families.lumina2:lumina2",
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
    """Name the embedders' factories."""
    for name in ("maskclip", "tcl", "clippy"):
        register(name, f"genseg_backends.embedders.{name}:{name}")
