"""The commits of the hub's repositories that backends load unless told otherwise.

Found pinned in public code or on stored copies of the hub's pages; none was loaded here (docs/verification.md).
"""

REVISIONS = {
    "stabilityai/stable-diffusion-xl-base-1.0": "462165984030d82259a11f4367a4eed129e94a7b",
    "stabilityai/sdxl-turbo": "71153311d3dbb46851df1931d3ca6e939de83304",
    "segmind/SSD-1B": "60987f37e94cd59c36b1cba832b9f97b57395a10",
    "segmind/Segmind-Vega": "7714c4363e5856ff974a4f4b068e8691f26d0b40",
    "PixArt-alpha/PixArt-XL-2-512x512": "50f702106901db6d0f8b67eb88e814c56ded2692",
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": "e102b3591cc82e97071b8b4cb90d834d0c487207",
    "stabilityai/stable-diffusion-3-medium-diffusers": "ea42f8cef0f178587cf766dc8129abd379c90671",
    "stabilityai/stable-diffusion-3.5-medium": "b940f670f0eda2d07fbb75229e779da1ad11eb80",
    "stabilityai/stable-diffusion-3.5-large": "ceddf0a7fdf2064ea28e2213e3b84e4afa170a0f",
    "black-forest-labs/FLUX.1-dev": "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
    "black-forest-labs/FLUX.1-schnell": "741f7c3ce8b383c54771c7003378a50191e9efe9",
    "black-forest-labs/FLUX.2-dev": "26afe3a78bb242c0a8bb181dcc8937bb16e5c66c",
    "black-forest-labs/FLUX.2-klein-4B": "e7b7dc27f91deacad38e78976d1f2b499d76a294",
    "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers": "e18f82ddb8233fa4d979c2613f41a3ca4c5fc730",
    "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers": "5e96094e0ad19e7f475de8711f03634ca0ccc40c",
    "Alpha-VLLM/Lumina-Image-2.0": "26d0f62a411a7d084b898a3b74f58a59a53d096f",
    "Qwen/Qwen-Image": "75e0b4be04f60ec59a75f475837eced720f823b6",
    "Tongyi-MAI/Z-Image-Turbo": "f332072aa78be7aecdf3ee76d5c247082da564a6",
    "facebook/DiT-XL-2-256": "32d0e3550d47bdf75c5092db378c0f32cd12e100",
    "google/ddpm-celebahq-256": "cd5c944777ea2668051904ead6cc120739b86c4d",
    "DeepFloyd/IF-I-XL-v1.0": "c03d510e9b75bce9f9db5bb85148c1402ad7e694",
    "facebook/vit-mae-large": "142cb8c25e1b1bc1769997a919aa1b5a2345a6b8",
    "openai/clip-vit-base-patch16": "refs/pr/10",  # the pull request that adds safetensors
    "CompVis/stable-diffusion-v1-4": "133a221b8aa7292a167afc5127cb63fb5005638b",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    "stabilityai/sd-turbo": "b261bac6fd2cf515557d5d0707481eafa0485ec2",
    "SimianLuo/LCM_Dreamshaper_v7": "a85df6a8bd976cdd08b4fd8f3b73f229c9e54df5",
}
