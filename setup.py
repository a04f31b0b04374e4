"""Packaging. ``kernels/`` is installed as ``silk_fast.kernels``, never as a top-level package."""

import platform
import zlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

LINUX_GPU = "platform_system == 'Linux' and platform_machine == 'x86_64'"
PACKAGES = {
    "silk_fast": "silk_fast",
    "silk_fast.audio": "silk_fast/audio",
    "silk_fast.reference": "silk_fast/reference",
    "silk_fast.acceleration": "silk_fast/acceleration",
    "silk_fast.codecs": "silk_fast/codecs",
    "silk_fast.cpu": "silk_fast/cpu",
    "silk_fast.runtime": "silk_fast/runtime",
    "silk_fast.runtime.serve": "silk_fast/runtime/serve",
    "silk_fast.runtime.tokenize": "silk_fast/runtime/tokenize",
    "silk_fast.corpus": "silk_fast/corpus",
    "silk_fast.training": "silk_fast/training",
    "silk_fast.evaluation": "silk_fast/evaluation",
    "silk_fast.benchmark": "silk_fast/benchmark",
    "silk_fast.cli": "silk_fast/cli",
    "silk_fast.kernels": "kernels",
    "silk_fast.kernels.attention": "kernels/attention",
    "silk_fast.kernels.fsq": "kernels/fsq",
    "silk_fast.kernels.glu_conv_norm_silu": "kernels/glu_conv_norm_silu",
    "silk_fast.kernels.inverse_stft": "kernels/inverse_stft",
    "silk_fast.kernels.residual_unit": "kernels/residual_unit",
    "silk_fast.kernels.rvq": "kernels/rvq",
}

C_FILES = sorted(Path("silk_fast/cpu").glob("*.[ch]"))
SOURCES = zlib.crc32(b"".join(path.read_bytes() for path in C_FILES))
C_LIBRARY = Extension(
    "silk_fast.cpu._library",
    [path.as_posix() for path in C_FILES if path.suffix == ".c"],
    depends=[path.as_posix() for path in C_FILES],
    define_macros=[("SILK_SOURCES", f"{SOURCES}u")],
    extra_compile_args=["-std=c11", "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"],
    optional=True,
)
if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
    C_LIBRARY.extra_compile_args.append("-mprefer-vector-width=512")  # by those loops that have such vectors


class BuildOptional(build_ext):
    """Build the C library, which is called by ctypes and is no module of Python; say so where it cannot be built."""

    def get_export_symbols(self, ext):
        return ext.export_symbols

    def build_extensions(self):
        super().build_extensions()
        for ext in self.extensions:
            if not Path(self.get_ext_fullpath(ext.name)).exists():
                print(f"{ext.name} was not built (it needs a C compiler): on a CPU, PyTorch's operations serve instead")


setup(
    name="silk_fast",
    version="0.1.0",
    description="Fast neural audio codecs: the Silk reference model and Triton kernels",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    ext_modules=[C_LIBRARY],
    cmdclass={"build_ext": BuildOptional},
    package_data={"silk_fast": ["models/*/*", "assets/*", "assets/words/*", "runtime/serve/page/*"]},
    install_requires=[
        "torch>=2.6",
        f"triton>=3.2; {LINUX_GPU}",
        "numpy>=1.26",
        "safetensors>=0.4",
        "soundfile>=0.12",
        "soxr>=0.5",
        "matplotlib>=3.8",
        "tqdm>=4.66",
    ],
    extras_require={
        "hub": ["huggingface_hub>=0.30"],
        "codecs": ["transformers>=5.0", "diffusers>=0.35", "snac>=1.2"],
        "train": ["tensorboard>=2.16", "av>=14", "praat-parselmouth>=0.4.3"],
        "eval": ["pystoi>=0.4", "pesq>=0.0.4", "praat-parselmouth>=0.4.3"],
        "tokenize": ["pyarrow>=17"],
        "ray": ["silk_fast[tokenize]", "ray[data]>=2.60"],
        "serve": ["anyio>=4", "fastapi>=0.115", "uvicorn>=0.34", "prometheus-client>=0.21", "websockets>=15"],
        "test": [
            "silk_fast[codecs]",
            "silk_fast[train]",
            "silk_fast[tokenize]",
            "silk_fast[serve]",
            "pystoi>=0.4",
            "praat-parselmouth>=0.4.3",
            "pytest>=8",
            "pytest-benchmark>=5",
            "pytest-xdist>=3.6",
            "mypy>=1.14",
            "hypothesis>=6.100",
            "pandas>=2.2",
            "duckdb>=1.1",
            "datasets>=3.0",
            "ruff==0.17.5",
            "scipy>=1.11",
            "vector-quantize-pytorch>=1.20",
        ],
    },
    entry_points={"console_scripts": ["silk = silk_fast.cli:main"]},
)
