"""Packaging: one distribution from three folders, ``trellis.*`` once installed."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
ROOMS = {"trellis.lightning_modules": "lightning_modules", "trellis.datamodules": "datamodules"}
CONFIGS = {
    ".".join(("trellis", *folder.relative_to(HERE).parts)): str(folder.relative_to(HERE))
    for folder in (HERE / "configs", *(HERE / "configs").iterdir())
    if folder.is_dir()
}

extras = {
    "rl": ["gymnasium>=1.1,<2"],
    "text": ["tokenizers>=0.20", "sacrebleu>=2.4"],
    "viz": ["matplotlib>=3.8"],
    "wandb": ["wandb>=0.19,<1"],
    "tensorboard": ["tensorboard>=2.15"],
}
extras["all"] = sorted({requirement for group in extras.values() for requirement in group})
# Measured against, in tests and in benchmarks only.
extras["dev"] = [*extras["all"], "build", "mypy", "pytest", "ruff", "types-PyYAML", "zuko>=1.6"]
extras["peers"] = ["nflows>=0.14", "normflows>=1.7", "pythae>=0.1.2", "stable-baselines3>=2.7"]

setup(
    name="torch-trellis",
    version="0.1.0",
    description="A graph-and-sequence research library on PyTorch Lightning",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"trellis": "src/trellis", **ROOMS, **CONFIGS},
    # The rooms are links in src/trellis for editors and type checkers; where git made no links of
    # them, as on Windows, this finds them all the same.
    packages=sorted(
        {
            *find_packages("src"),
            *CONFIGS,
            *ROOMS,
            *(f"{name}.{sub}" for name, room in ROOMS.items() for sub in find_packages(room)),
        }
    ),
    package_data={"trellis": ["py.typed"], **{name: ["*.yaml", "*.json"] for name in CONFIGS}},
    install_requires=[
        "torch>=2.6",
        # 2.6.2 and 2.6.3 were malware (GHSA-w37p-236h-pfx3).
        "lightning>=2.6.4,<2.7",
        "jsonargparse[signatures]>=4.49,<5",
        "torchmetrics>=1.4",
        "torch-geometric>=2.6",
        "scikit-learn>=1.3",
        "numpy",
        "pyyaml",
    ],
    extras_require=extras,
    entry_points={"console_scripts": ["trellis = trellis.lightning_modules.cli:main"]},
)
